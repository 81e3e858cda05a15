// bdhctl bench data: how fast text becomes tokens and tokens become batches, on this machine and this mesh.
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
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
#include "bdh/tokenizer/trainer.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "bdh/v1/tokenizers.grpc.pb.h"
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
  std::string text;
  int megabytes = 10, vocab_size = 32000, threads = 2;
  double seconds = 3;
};

double SecondsOf(const std::function<void()>& work) {
  const absl::Time start = absl::Now();
  work();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

// Words that are as unequal as those of a language, in several scripts, with numbers, signs and code.
std::string MixedText(size_t bytes) {
  uint32_t random = 7;
  const auto next = [&] { return (random = random * 1664525 + 1013904223) >> 8; };
  const char* const syllables[] = {"ba",  "ter", "on", "ly", "sche", "ri",  "mo",
                                   "кра", "ни",  "α",  "と", "the",  "ing", "é"};
  std::vector<std::string> words;
  for (int i = 0; i < 60000; ++i) {
    std::string word;
    for (uint32_t n = 1 + next() % 4; n > 0; --n) word += syllables[next() % std::size(syllables)];
    words.push_back(word);
  }
  std::string text;
  while (text.size() < bytes) {
    const double unit = (next() % 1000000 + 1) / 1e6;
    text += words[static_cast<size_t>(unit * unit * unit * unit * 59999)];
    const uint32_t sign = next() % 40;
    text += sign == 0   ? ".\n"
            : sign == 1 ? ", "
            : sign == 2 ? absl::StrFormat(" %d ", next() % 3000)
            : sign == 3 ? " if (x_ == 0) return;\n    "
                        : " ";
  }
  return text.substr(0, bytes);
}

double EncodeSeconds(const tokenizer::Tokenizer& tokenizer, std::string_view text) {
  constexpr size_t kPiece = 100000;
  return SecondsOf([&] {
    std::vector<int32_t> tokens;
    for (size_t at = 0; at < text.size(); at += kPiece) {
      tokens.clear();
      tokenizer.Encode(text.substr(at, kPiece), tokens);
    }
  });
}

double EncodeSecondsOf(const tokenizer::Tokenizer& tokenizer, std::string_view text, int threads) {
  return SecondsOf([&] {
    std::vector<std::thread> all;
    for (int i = 0; i < threads; ++i) all.emplace_back([&] { EncodeSeconds(tokenizer, text); });
    for (std::thread& thread : all) thread.join();
  });
}

// The same with Hugging Face's library, if this machine's Python has it: 0 if not.
double HuggingFaceSeconds(const std::string& folder) {
  const std::string script = absl::StrFormat(
      "python3 -c \"import os,time; os.environ['TOKENIZERS_PARALLELISM']='0'; from tokenizers import "
      "Tokenizer; "
      "t=Tokenizer.from_file('%s/tokenizer.json'); x=open('%s/text','rb').read().decode('utf-8','replace'); "
      "p=[x[i:i+100000] for i in range(0,len(x),100000)]; s=time.perf_counter(); "
      "[t.encode(y,add_special_tokens=False) for y in p]; print(time.perf_counter()-s)\" 2>/dev/null",
      folder, folder);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(script.c_str(), "re"), &pclose);
  double seconds = 0;
  return pipe != nullptr && std::fscanf(pipe.get(), "%lf", &seconds) == 1 ? seconds : 0;
}

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

void Clear(const mesh::Peer& loader) {
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  const auto service = v1::TokenizerService::NewStub(loader.channel());
  v1::DeleteDatasetRequest dataset;
  dataset.set_name(kName);
  Forget(loader, *stub, dataset, &Loader::DeleteDataset);
  v1::DeleteTokenizerRequest tokenizer;
  tokenizer.set_name(kName);
  Forget(loader, *service, tokenizer, &Service::DeleteTokenizer);
}

// As a corpus is: files of a megabyte.
absl::Status WriteFiles(const std::string& folder, const std::string& text) {
  constexpr size_t kFileBytes = 1000000;
  BDH_RETURN_IF_ERROR(MakeDirectories(folder));
  for (size_t at = 0; at < text.size(); at += kFileBytes) {
    BDH_RETURN_IF_ERROR(WriteFileAtomically(absl::StrFormat("%s/%06d.txt", folder, at / kFileBytes),
                                            std::string_view(text).substr(at, kFileBytes)));
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
  tokenizer::TrainerOptions options;
  options.vocab_size = vocab_size;
  BDH_ASSIGN_OR_RETURN(const auto trainer, tokenizer::TokenizerTrainer::Create(options));
  trainer->Add(text);
  BDH_ASSIGN_OR_RETURN(const auto files, trainer->Finish());
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

absl::StatusOr<Json> Measure(const BenchFlags& flags, const Mesh& mesh, const std::string& folder,
                             const std::string& text) {
  const mesh::Peer loader = mesh.DataLoader();
  ProgressLine line(stderr);
  Clear(loader);
  const absl::Cleanup clear = [&] { Clear(loader); };
  BDH_RETURN_IF_ERROR(WriteFileAtomically(folder + "/text", text));

  line.Show("training a tokenizer");
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  absl::Status trained;
  const double train_seconds = SecondsOf([&] {
    auto made = TrainAndImport(loader, text, flags.vocab_size, folder);
    trained = made.status();
    if (made.ok()) tokenizer = *made;
  });
  BDH_RETURN_IF_ERROR(trained);

  line.Show("encoding");
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  EncodeSeconds(*tokenizer, std::string_view(text).substr(0, 1 << 20));  // Warm.
  const double one = megabytes / EncodeSeconds(*tokenizer, text);
  const double many = megabytes * flags.threads / EncodeSecondsOf(*tokenizer, text, flags.threads);
  line.Show("encoding with Hugging Face's library");
  const double theirs = HuggingFaceSeconds(folder);

  line.Show("making shards");
  BDH_RETURN_IF_ERROR(WriteFiles(folder + "/texts", text));
  BDH_ASSIGN_OR_RETURN(const double shard_seconds, MakeShards(loader, folder + "/texts"));
  line.Show("streaming batches");
  BDH_ASSIGN_OR_RETURN(const double one_client, StreamRate(mesh, 1, flags));
  BDH_ASSIGN_OR_RETURN(const double two_clients, StreamRate(mesh, 2, flags));
  BDH_ASSIGN_OR_RETURN(const double waiting, WaitingShare(mesh, flags));
  Json json = {{"text_megabytes", megabytes},        {"vocab_size", tokenizer->vocab_size()},
               {"threads", flags.threads},           {"train_seconds", train_seconds},
               {"encode_megabytes_per_second", one}, {"encode_megabytes_per_second_all_threads", many}};
  if (theirs > 0) {
    json["hugging_face_megabytes_per_second"] = megabytes / theirs;
    json["encode_ratio_to_hugging_face"] = one * theirs / megabytes;
  }
  json["shards_megabytes_per_second"] = megabytes / shard_seconds;
  json["shards_ratio_to_encode_all_threads"] = megabytes / shard_seconds / many;
  json["stream_tokens_per_second_1_client"] = one_client;
  json["stream_tokens_per_second_2_clients"] = two_clients;
  json["waiting_share_at_1m_tokens_per_second"] = waiting;
  return json;
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
  for (const auto& [name, value] : json.items()) {
    const double number = value.get<double>();
    table.Add(
        {name, number >= 1e5 ? FormatCount(static_cast<uint64_t>(number)) : absl::StrFormat("%.4g", number)});
  }
  std::cout << table.ToString();
  return kExitOk;
}

void DefineBench(CLI::App& command, BenchFlags& flags) {
  command
      .add_option("--text", flags.text, "Measure with this file (default: made-up text in several scripts)")
      ->type_name("FILE");
  command.add_option("--megabytes", flags.megabytes, "Of made-up text (default: 10)")
      ->check(CLI::Range(1, 1000));
  command.add_option("--vocab-size", flags.vocab_size, "Of the byte-level BPE (default: 32000)");
  command.add_option("--threads", flags.threads, "That encode, and that the data-loader has (default: 2)")
      ->check(CLI::Range(1, 256));
  command.add_option("--seconds", flags.seconds, "How long each stream is read (default: 3)")
      ->check(CLI::Range(0.1, 600.0));
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "Needs a mesh on this machine whose data-loader reads the folder for temporary files. Where python3 "
      "has the\n"
      "library `tokenizers`, it encodes the same text with the same tokenizer.json.");
}

}  // namespace

void AddBenchData(CLI::App& bench, Invocation& invocation) {
  AddCommand<BenchFlags>(bench, invocation, "data", "Measure the data-loader: encoding, shards, batches",
                         DefineBench, RunBench);
}

}  // namespace bdh::bdhctl
