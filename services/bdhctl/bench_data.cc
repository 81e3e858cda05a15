// bdhctl bench data: how fast text becomes tokens and tokens become batches, on this machine and this mesh.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <semaphore>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/tokenizer/tokenizer.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "bdh/v1/tokenizers.grpc.pb.h"
#include "services/bdhctl/bench_encode.h"
#include "services/bdhctl/bench_text.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/output.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;
using Loader = v1::DataLoaderService::Stub;
using Service = v1::TokenizerService::Stub;

constexpr absl::Duration kTimeout = absl::Hours(1);
// What a data set and a tokenizer of the benchmark are called: made anew, deleted at the end.
constexpr char kName[] = "bdhctl-bench";

struct BenchFlags {
  MeshFlags mesh;
  std::string text, python;
  int megabytes = 10, vocab_size = 32000, train_vocab_size = 8192, threads = 2, rounds = 7;
  double seconds = 3;
};

// Tokens a second of one stream that is read for a while.
struct Streamed {
  int64_t tokens = 0;
  absl::Status status;
};

Streamed ReadBatches(const mesh::Peer& loader, uint64_t seed, int batch, int block, double seconds) {
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  const auto context = loader.NewContext(kTimeout);
  v1::StreamBatchesRequest request;
  request.set_dataset(kName);
  request.set_split(v1::SPLIT_TRAIN);
  request.set_seed(seed);
  request.set_batch_size(batch);
  request.set_block_size(block);
  const auto stream = stub->StreamBatches(context.get(), request);
  Streamed read;
  const absl::Time end = absl::Now() + absl::Seconds(seconds);
  v1::Batch message;
  while (absl::Now() < end && stream->Read(&message))
    read.tokens += int64_t{message.rows()} * message.columns();
  const bool enough = absl::Now() >= end;
  context->TryCancel();
  const absl::Status outcome = loader.Outcome(stream->Finish());
  if (!enough) read.status = outcome;
  return read;
}

absl::StatusOr<double> StreamRate(const Mesh& mesh, int clients, const BenchFlags& flags) {
  std::vector<Streamed> read(static_cast<size_t>(clients));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < read.size(); ++i) {
    threads.emplace_back([&, i] {
      const mesh::Peer loader = mesh.DataLoader();  // A connection of its own.
      read[i] = ReadBatches(loader, i, 32, 512, flags.seconds);
    });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t tokens = 0;
  for (const Streamed& one : read) {
    BDH_RETURN_IF_ERROR(one.status);
    tokens += one.tokens;
  }
  return static_cast<double>(tokens) / flags.seconds;
}

// The share of its time that a trainer of a million tokens a second waits for batches, with two of them read
// ahead as our trainer does.
absl::StatusOr<double> WaitingShare(const Mesh& mesh, const BenchFlags& flags) {
  const mesh::Peer loader = mesh.DataLoader();
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  const auto context = loader.NewContext(kTimeout);
  v1::StreamBatchesRequest request;
  request.set_dataset(kName);
  request.set_split(v1::SPLIT_TRAIN);
  request.set_batch_size(32);
  request.set_block_size(512);
  const auto stream = stub->StreamBatches(context.get(), request);
  std::counting_semaphore<> room(2), ready(0);
  std::atomic<bool> open = true;
  std::thread reader([&] {
    for (v1::Batch message; open && stream->Read(&message);) {
      room.acquire();
      ready.release();
    }
    open = false;
    ready.release();
  });
  ready.acquire();  // The first is waited for, once a run.
  double waited = 0;
  const absl::Time start = absl::Now(), end = start + absl::Seconds(flags.seconds);
  while (open && absl::Now() < end) {
    room.release();
    absl::SleepFor(absl::Seconds(32 * 513 / 1e6));  // The step.
    waited += SecondsOf([&] { ready.acquire(); });
  }
  const double took = absl::ToDoubleSeconds(absl::Now() - start);
  const bool broke = !open.exchange(false);
  context->TryCancel();
  room.release(4);
  reader.join();
  const absl::Status outcome = loader.Outcome(stream->Finish());
  if (broke) return outcome;
  return waited / took;
}

template <class Stub, class Request>
void Forget(const mesh::Peer& loader, Stub& stub, const Request& request, auto method) {
  (void)loader.Call(stub, method, request, kTimeout);  // It may not be there.
}

void ClearDataset(const mesh::Peer& loader) {
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  v1::DeleteDatasetRequest dataset;
  dataset.set_name(kName);
  Forget(loader, *stub, dataset, &Loader::DeleteDataset);
}

void Clear(const mesh::Peer& loader) {
  ClearDataset(loader);
  const auto service = v1::TokenizerService::NewStub(loader.channel());
  v1::DeleteTokenizerRequest tokenizer;
  tokenizer.set_name(kName);
  Forget(loader, *service, tokenizer, &Service::DeleteTokenizer);
}

// As a corpus is: files of a megabyte. As often as threads encode it, so that there is as much to do.
absl::Status WriteFiles(const std::string& folder, const std::string& text, int copies) {
  constexpr size_t kFileBytes = 1000000;
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  for (int copy = 0; copy < copies; ++copy) {
    for (size_t at = 0; at < text.size(); at += kFileBytes) {
      BDH_RETURN_IF_ERROR(
          WriteFileAtomically(absl::StrFormat("%s/%d-%06d.txt", folder, copy, at / kFileBytes),
                              std::string_view(text).substr(at, kFileBytes)));
    }
  }
  return absl::OkStatus();
}

// Seconds from the daemon's beginning to read `path` to the data set's being there.
absl::StatusOr<double> MakeShards(const mesh::Peer& loader, const std::string& path) {
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  const auto context = loader.NewContext(kTimeout);
  const absl::Time start = absl::Now();
  const auto stream = stub->CreateDataset(context.get());
  v1::CreateDatasetRequest request;
  request.mutable_spec()->set_name(kName);
  request.mutable_spec()->set_tokenizer(kName);
  request.mutable_spec()->add_paths(path);
  request.mutable_spec()->mutable_documents()->set_format("text");
  stream->Write(request);
  stream->WritesDone();
  for (v1::CreateDatasetResponse response; stream->Read(&response);) {
  }
  BDH_RETURN_IF_ERROR(loader.Outcome(stream->Finish()));
  return absl::ToDoubleSeconds(absl::Now() - start);
}

absl::StatusOr<std::shared_ptr<const tokenizer::Tokenizer>> TrainAndImport(const mesh::Peer& loader,
                                                                           const std::string& text,
                                                                           int vocab_size,
                                                                           const std::string& folder) {
  BDH_ASSIGN_OR_RETURN(const auto files, TrainOnLines(text, vocab_size));
  v1::ImportTokenizerRequest request;
  request.set_name(kName);
  for (const tokenizer::TokenizerFile& file : files) {
    BDH_RETURN_IF_ERROR(WriteFileAtomically(absl::StrFormat("%s/%s", folder, file.name), file.bytes));
    v1::TokenizerFile& wire = *request.add_files();
    wire.set_name(file.name);
    wire.set_data(file.bytes);
  }
  const auto service = v1::TokenizerService::NewStub(loader.channel());
  BDH_RETURN_IF_ERROR(loader.Call(*service, &Service::ImportTokenizer, request, kTimeout).status());
  return tokenizer::LoadTokenizer(kName, files);
}

// What one measurement works on.
struct Bench {
  const BenchFlags& flags;
  const Mesh& mesh;
  const mesh::Peer& loader;
  const std::string& folder;
  const std::string& text;
  HuggingFace* theirs = nullptr;  // Null: it is not here.
  ProgressLine line = ProgressLine(stderr);

  double megabytes() const { return static_cast<double>(text.size()) / 1e6; }
  // Theirs takes long, and is not what varies.
  int rounds_of_theirs() const { return std::min(flags.rounds, 3); }
};

absl::Status MeasureTraining(Bench& bench, Json& json) {
  std::vector<double> ours, theirs;
  for (int round = 0; round < bench.rounds_of_theirs(); ++round) {
    bench.line.Show("training a tokenizer");
    absl::Status status;
    ours.push_back(
        SecondsOf([&] { status = TrainOnLines(bench.text, bench.flags.train_vocab_size).status(); }));
    BDH_RETURN_IF_ERROR(status);
    if (bench.theirs == nullptr) continue;
    bench.line.Show("training one with Hugging Face's library");
    BDH_ASSIGN_OR_RETURN(const double seconds, bench.theirs->TrainSeconds(bench.flags.train_vocab_size));
    theirs.push_back(seconds);
  }
  json["train_vocab_size"] = bench.flags.train_vocab_size;
  json["train_seconds"] = Median(ours);
  if (theirs.empty()) return absl::OkStatus();
  json["hugging_face_train_seconds"] = Median(theirs);
  json["train_time_ratio_to_hugging_face"] = Median(ours) / Median(theirs);
  return absl::OkStatus();
}

absl::Status MeasureEncoding(Bench& bench, const std::shared_ptr<const tokenizer::Tokenizer>& tokenizer,
                             Json& json) {
  bench.line.Show("encoding");
  EncodeThreads alone(tokenizer, bench.text, 1);
  alone.Round();  // Warm.
  std::vector<double> ours, theirs;
  for (int round = 0; round < bench.rounds_of_theirs(); ++round) {
    for (int i = 0; i < 3; ++i) ours.push_back(bench.megabytes() / alone.Round());
    if (bench.theirs == nullptr) continue;
    bench.line.Show("encoding with Hugging Face's library");
    BDH_ASSIGN_OR_RETURN(const double seconds, bench.theirs->EncodeSeconds());
    theirs.push_back(bench.megabytes() / seconds);
  }
  json["encode_megabytes_per_second"] = Median(ours);
  if (theirs.empty()) return absl::OkStatus();
  json["hugging_face_encode_megabytes_per_second"] = Median(theirs);
  json["encode_ratio_to_hugging_face"] = Median(ours) / Median(theirs);
  BDH_ASSIGN_OR_RETURN(const size_t their_tokens, bench.theirs->Tokens());
  json["tokens_as_hugging_face"] = their_tokens == EncodeAll(*tokenizer, bench.text);
  return absl::OkStatus();
}

// Threads, processes and shards in turn: what else the machine does meets all of them.
absl::Status MeasureThreads(Bench& bench, const std::shared_ptr<const tokenizer::Tokenizer>& tokenizer,
                            Json& json) {
  bench.line.Show("encoding in threads and processes, and into shards");
  const std::string texts = bench.folder + "/texts";
  BDH_RETURN_IF_ERROR(WriteFiles(texts, bench.text, bench.flags.threads));
  EncodeThreads threads(tokenizer, bench.text, bench.flags.threads);
  BDH_ASSIGN_OR_RETURN(EncodeProcesses processes, EncodeProcesses::Start(bench.folder, bench.flags.threads));
  threads.Round();
  const double megabytes = bench.megabytes() * bench.flags.threads;
  std::vector<double> thread_rates, process_rates, shard_rates, thread_ratios, shard_ratios;
  for (int round = 0; round < bench.flags.rounds; ++round) {
    const double of_threads = threads.Round();
    BDH_ASSIGN_OR_RETURN(const double of_processes, processes.Round());
    BDH_ASSIGN_OR_RETURN(const double of_shards, MakeShards(bench.loader, texts));
    if (round + 1 < bench.flags.rounds) ClearDataset(bench.loader);
    thread_rates.push_back(megabytes / of_threads);
    process_rates.push_back(megabytes / of_processes);
    shard_rates.push_back(megabytes / of_shards);
    thread_ratios.push_back(of_processes / of_threads);
    shard_ratios.push_back(of_threads / of_shards);
  }
  json["threads"] = bench.flags.threads;
  json["threads_encode_megabytes_per_second"] = Median(thread_rates);
  json["processes_encode_megabytes_per_second"] = Median(process_rates);
  json["threads_ratio_to_processes"] = Median(thread_ratios);
  json["shards_megabytes_per_second"] = Median(shard_rates);
  json["shards_ratio_to_threads"] = Median(shard_ratios);
  return absl::OkStatus();
}

absl::Status MeasureStreams(Bench& bench, Json& json) {
  bench.line.Show("streaming batches");
  BDH_ASSIGN_OR_RETURN(const double one_client, StreamRate(bench.mesh, 1, bench.flags));
  BDH_ASSIGN_OR_RETURN(const double two_clients, StreamRate(bench.mesh, 2, bench.flags));
  BDH_ASSIGN_OR_RETURN(const double waiting, WaitingShare(bench.mesh, bench.flags));
  json["stream_tokens_per_second_1_client"] = one_client;
  json["stream_tokens_per_second_2_clients"] = two_clients;
  json["waiting_share_at_1m_tokens_per_second"] = waiting;
  return absl::OkStatus();
}

absl::StatusOr<Json> Measure(const BenchFlags& flags, const Mesh& mesh, const std::string& folder,
                             const std::string& text) {
  const mesh::Peer loader = mesh.DataLoader();
  Clear(loader);
  const absl::Cleanup clear = [&] { Clear(loader); };
  BDH_RETURN_IF_ERROR(WriteFileAtomically(absl::StrFormat("%s/%s", folder, kBenchText), text));
  const auto theirs = HuggingFace::Start(flags.python, folder);
  Bench bench{.flags = flags,
              .mesh = mesh,
              .loader = loader,
              .folder = folder,
              .text = text,
              .theirs = theirs.ok() ? theirs->get() : nullptr};
  const auto ascii = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
  Json json = {
      {"text_megabytes", bench.megabytes()},
      {"text_ascii_share", static_cast<double>(ascii) / static_cast<double>(text.size())},
      {"vocab_size", flags.vocab_size},
      {"rounds", flags.rounds},
      {"hugging_face", theirs.ok() ? "tokenizers " + (*theirs)->version()
                                   : absl::StrFormat("not measured: %s (choose a Python with --python)",
                                                     theirs.status().message())}};
  BDH_RETURN_IF_ERROR(MeasureTraining(bench, json));
  BDH_ASSIGN_OR_RETURN(const auto tokenizer, TrainAndImport(loader, text, flags.vocab_size, folder));
  BDH_RETURN_IF_ERROR(MeasureEncoding(bench, tokenizer, json));
  BDH_RETURN_IF_ERROR(MeasureThreads(bench, tokenizer, json));
  BDH_RETURN_IF_ERROR(MeasureStreams(bench, json));
  return json;
}

std::string FigureText(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  const double number = value.get<double>();
  return number >= 1e5 ? FormatCount(static_cast<uint64_t>(number)) : absl::StrFormat("%.4g", number);
}

absl::StatusOr<int> RunBench(const BenchFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  std::string text;
  if (flags.text.empty()) {
    text = MixedText(static_cast<size_t>(flags.megabytes) * 1000000);
  } else {
    BDH_ASSIGN_OR_RETURN(text, ReadFile(flags.text));
  }
  std::error_code error;
  const std::string folder =
      (std::filesystem::temp_directory_path(error) / ("bdhctl-bench-" + RandomHex(4))).string();
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  const absl::Cleanup remove = [&] { std::filesystem::remove_all(folder, error); };
  BDH_ASSIGN_OR_RETURN(const Json json, Measure(flags, mesh, folder, text));
  if (flags.mesh.json) {
    PrintJson(json);
    return kExitOk;
  }
  Table table({"FIGURE", ">"});
  for (const auto& [name, value] : json.items()) table.Add({name, FigureText(value)});
  std::cout << table.ToString();
  return kExitOk;
}

void DefineBench(CLI::App& command, BenchFlags& flags) {
  const char* const python = std::getenv("BDH_PYTHON");
  flags.python = python != nullptr ? python : "python3";
  command
      .add_option("--text", flags.text,
                  "Measure with this file (default: made-up text in scripts of the world, code and markdown)")
      ->type_name("FILE");
  command.add_option("--megabytes", flags.megabytes, "Of made-up text (default: 10)")
      ->check(CLI::Range(1, 1000));
  command.add_option("--vocab-size", flags.vocab_size, "Of the byte-level BPE that encodes (default: 32000)");
  command.add_option("--train-vocab-size", flags.train_vocab_size,
                     "Of the one that training is measured with (default: 8192)");
  command
      .add_option("--rounds", flags.rounds,
                  "Of threads, processes and shards; medians are printed (default: 7)")
      ->check(CLI::Range(1, 1000));
  command
      .add_option("--python", flags.python,
                  "That has Hugging Face's library `tokenizers` (default: $BDH_PYTHON, else python3)")
      ->type_name("PROGRAM");
  command.add_option("--threads", flags.threads, "That encode, and that the data-loader has (default: 2)")
      ->check(CLI::Range(1, 256));
  command.add_option("--seconds", flags.seconds, "How long each stream is read (default: 3)")
      ->check(CLI::Range(0.1, 600.0));
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "Needs a mesh on this machine whose data-loader reads the folder for temporary files, and tokenizes "
      "with "
      "as many\nthreads. Where the Python has the library `tokenizers`, it trains on and encodes the same "
      "text.");
}

struct LoopFlags {
  std::string folder;
};

}  // namespace

void AddBenchData(CLI::App& bench, Invocation& invocation) {
  AddCommand<BenchFlags>(bench, invocation, "data", "Measure the data-loader: encoding, shards, batches",
                         DefineBench, RunBench);
  AddCommand<LoopFlags>(
      bench, invocation, "encode-loop", "Encode a folder's text at each line of standard input",
      [](CLI::App& command, LoopFlags& flags) {
        command.add_option("folder", flags.folder)->required();
        command.group("");  // Of `bench data`, not of people.
      },
      [](const LoopFlags& flags) { return RunEncodeLoop(flags.folder); });
}

}  // namespace bdh::bdhctl
