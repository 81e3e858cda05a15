// bdhctl tokenizer: trained here or taken over, and tried out.
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/tokenizer/tokenizer.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "bdh/v1/tokenizers.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/proto_json.h"
#include "services/bdhctl/transfer.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;
using Loader = v1::DataLoaderService::Stub;
using Service = v1::TokenizerService::Stub;
using TrainStream = grpc::ClientReaderWriter<v1::TrainTokenizerRequest, v1::TrainTokenizerResponse>;

constexpr absl::Duration kTrainTimeout = absl::Hours(24);
constexpr int kBarWidth = 24;

const std::map<std::string, v1::TokenizerKind> kKinds = {{"bpe", v1::TOKENIZER_KIND_BPE},
                                                         {"wordpiece", v1::TOKENIZER_KIND_WORDPIECE},
                                                         {"unigram", v1::TOKENIZER_KIND_UNIGRAM}};

struct TrainFlags {
  MeshFlags mesh;
  std::string name, split, dataset;
  std::vector<std::string> files, server_paths, special_tokens;
  v1::TokenizerKind kind = v1::TOKENIZER_KIND_BPE;
  int vocab_size = 8192, min_frequency = 0;
};

struct NameFlags {
  MeshFlags mesh;
  std::string name;
};

struct ImportFlags {
  MeshFlags mesh;
  std::string name;
  std::vector<std::string> files;
};

struct ExportFlags {
  MeshFlags mesh;
  std::string name, folder;
};

struct EncodeFlags {
  MeshFlags mesh;
  std::string name, text = "-";
};

struct DecodeFlags {
  MeshFlags mesh;
  std::string name;
  std::vector<int32_t> tokens;
};

std::string KindName(v1::TokenizerKind kind) {
  for (const auto& [name, value] : kKinds) {
    if (value == kind) return name;
  }
  return "byte";
}

// One call of the TokenizerService.
template <class Request, class Response>
absl::StatusOr<Response> Ask(const MeshFlags& flags,
                             grpc::Status (Service::*method)(grpc::ClientContext*, const Request&, Response*),
                             const Request& request) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags));
  const mesh::Peer loader = mesh.DataLoader();
  const auto stub = v1::TokenizerService::NewStub(loader.channel());
  return loader.Call(*stub, method, request, mesh.call_timeout());
}

void PrintTokenizer(const v1::TokenizerInfo& info, bool json) {
  if (json) return PrintJson(ToJson(info));
  std::cout << absl::StrFormat("Tokenizer %s: %s, %d tokens\n", info.name(), KindName(info.kind()),
                               info.vocab_size());
}

void ShowTraining(ByteBar& bar, ProgressLine& line, const v1::TrainTokenizerProgress& at) {
  if (at.phase() == "reading") {
    return bar.Show(at.phase(), at.bytes_in(), at.bytes_total(), "");
  }
  const double fraction =
      at.vocab_size_wanted() > 0 ? static_cast<double>(at.vocab_size()) / at.vocab_size_wanted() : 0;
  line.Show(absl::StrFormat("%s %s %3.0f%%  %d of %d tokens", at.phase(), Bar(fraction, kBarWidth),
                            100 * std::min(fraction, 1.0), at.vocab_size(), at.vocab_size_wanted()));
}

v1::TokenizerInfo ReadAnswers(TrainStream& stream, bool sending) {
  v1::TokenizerInfo info;
  ByteBar bar("reading", 0);
  ProgressLine line(stderr);
  v1::TrainTokenizerResponse response;
  while (stream.Read(&response)) {
    if (response.has_tokenizer()) info = response.tokenizer();
    if (!response.has_progress()) continue;
    if (sending && response.progress().phase() == "reading") continue;  // The bar of sending is there.
    ShowTraining(bar, line, response.progress());
  }
  return info;
}

v1::TrainTokenizerSpec MakeSpec(const TrainFlags& flags, const Mesh& mesh) {
  v1::TrainTokenizerSpec spec;
  spec.set_name(flags.name);
  spec.set_kind(flags.kind);
  spec.set_vocab_size(flags.vocab_size);
  spec.set_min_frequency(flags.min_frequency);
  spec.set_split(flags.split);
  spec.set_dataset(flags.dataset);
  for (const std::string& token : flags.special_tokens) spec.add_special_tokens(token);
  for (const std::string& path : flags.server_paths) {
    std::error_code ignored;
    const bool local = mesh.folder.has_value() && path.find("://") == std::string::npos;
    spec.add_paths(local ? std::filesystem::absolute(path, ignored).string() : path);
  }
  return spec;
}

absl::StatusOr<int> RunTrain(const TrainFlags& flags) {
  if (!flags.files.empty() + !flags.server_paths.empty() + !flags.dataset.empty() != 1) {
    return absl::InvalidArgumentError(
        "name what to learn from: files to send (or - for standard input), --server-path, or --dataset");
  }
  BDH_ASSIGN_OR_RETURN(const std::vector<InputFile> files, OpenInputs(flags.files));
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer loader = mesh.DataLoader();
  const auto stub = v1::TokenizerService::NewStub(loader.channel());
  const auto context = loader.NewContext(kTrainTimeout);
  const auto stream = stub->TrainTokenizer(context.get());
  v1::TokenizerInfo info;
  std::thread reader([&] { info = ReadAnswers(*stream, !files.empty()); });
  v1::TrainTokenizerRequest first;
  *first.mutable_spec() = MakeSpec(flags, mesh);
  absl::StatusOr<bool> sent = stream->Write(first);
  if (*sent && !files.empty()) {
    sent = SendInputs(files, [&](const std::string& file, std::string_view piece) {
      v1::TrainTokenizerRequest request;
      request.mutable_chunk()->set_document(file);
      request.mutable_chunk()->set_data(piece.data(), piece.size());
      return stream->Write(request);
    });
  }
  if (!sent.ok()) context->TryCancel();  // What could not be read here must not be learnt by half.
  stream->WritesDone();
  reader.join();
  const absl::Status outcome = loader.Outcome(stream->Finish());
  BDH_RETURN_IF_ERROR(sent.status());
  BDH_RETURN_IF_ERROR(outcome);
  PrintTokenizer(info, flags.mesh.json);
  return kExitOk;
}

absl::StatusOr<int> RunList(const MeshFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const auto response,
                       Ask(flags, &Service::ListTokenizers, v1::ListTokenizersRequest()));
  if (flags.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  Table table({"NAME", "KIND", ">TOKENS", "SPECIAL", "HASH"});
  for (const v1::TokenizerInfo& info : response.tokenizers()) {
    table.Add({info.name(), KindName(info.kind()), std::to_string(info.vocab_size()),
               std::to_string(info.special_tokens_size()), info.hash().substr(0, 12)});
  }
  std::cout << table.ToString();
  return kExitOk;
}

absl::StatusOr<int> RunShow(const NameFlags& flags) {
  v1::DescribeTokenizerRequest request;
  request.set_name(flags.name);
  BDH_ASSIGN_OR_RETURN(const auto response, Ask(flags.mesh, &Service::DescribeTokenizer, request));
  if (flags.mesh.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  const v1::TokenizerInfo& info = response.tokenizer();
  std::cout << absl::StrFormat("name           %s\nkind           %s\ntokens         %d\nhash           %s\n",
                               info.name(), KindName(info.kind()), info.vocab_size(), info.hash());
  for (int i = 0; i < info.special_tokens_size(); ++i) {
    std::cout << absl::StrFormat("%-15s%s = %d\n", i == 0 ? "special" : "", info.special_tokens(i),
                                 info.special_ids(i));
  }
  if (!info.chat_template().empty()) {
    std::cout << absl::StrFormat("chat template  %d bytes\n", info.chat_template().size());
  }
  if (response.datasets_size() > 0) {
    std::cout << absl::StrFormat("data sets      %s\n", absl::StrJoin(response.datasets(), ", "));
  }
  return kExitOk;
}

absl::StatusOr<int> RunRemove(const NameFlags& flags) {
  v1::DeleteTokenizerRequest request;
  request.set_name(flags.name);
  BDH_RETURN_IF_ERROR(Ask(flags.mesh, &Service::DeleteTokenizer, request).status());
  if (!flags.mesh.json) std::cout << absl::StrFormat("Deleted tokenizer %s\n", flags.name);
  return kExitOk;
}

absl::StatusOr<int> RunImport(const ImportFlags& flags) {
  v1::ImportTokenizerRequest request;
  request.set_name(flags.name);
  std::vector<tokenizer::TokenizerFile> files;
  for (const std::string& path : flags.files) {
    if (std::filesystem::is_directory(path)) {
      BDH_ASSIGN_OR_RETURN(auto found, tokenizer::ReadTokenizerFiles(path));
      if (found.empty()) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%s holds no tokenizer.json, tokenizer.model or spiece.model", path));
      }
      for (auto& file : found) files.push_back(std::move(file));
    } else {
      BDH_ASSIGN_OR_RETURN(std::string bytes, ReadFile(path));
      files.push_back({std::filesystem::path(path).filename().string(), std::move(bytes)});
    }
  }
  for (tokenizer::TokenizerFile& file : files) {
    v1::TokenizerFile& wire = *request.add_files();
    wire.set_name(file.name);
    wire.set_data(std::move(file.bytes));
  }
  BDH_ASSIGN_OR_RETURN(const auto response, Ask(flags.mesh, &Service::ImportTokenizer, request));
  PrintTokenizer(response.tokenizer(), flags.mesh.json);
  return kExitOk;
}

absl::StatusOr<int> RunExport(const ExportFlags& flags) {
  v1::ExportTokenizerRequest request;
  request.set_name(flags.name);
  BDH_ASSIGN_OR_RETURN(const auto response, Ask(flags.mesh, &Service::ExportTokenizer, request));
  BDH_RETURN_IF_ERROR(MakeDirectories(flags.folder));
  for (const v1::TokenizerFile& file : response.files()) {
    // A name that leaves the folder would be the daemon's, not ours.
    const std::string name = std::filesystem::path(file.name()).filename().string();
    BDH_RETURN_IF_ERROR(WriteFileAtomically(absl::StrFormat("%s/%s", flags.folder, name), file.data()));
    if (!flags.mesh.json) std::cout << absl::StrFormat("%s/%s\n", flags.folder, name);
  }
  return kExitOk;
}

absl::StatusOr<std::string> TextOf(const std::string& given) {
  if (given != "-") return given;
  std::string text;
  char buffer[65536];
  while (const size_t got = std::fread(buffer, 1, sizeof(buffer), stdin)) text.append(buffer, got);
  if (std::ferror(stdin)) return ErrnoStatus(errno, "read standard input");
  return text;
}

absl::StatusOr<int> RunEncode(const EncodeFlags& flags) {
  v1::TokenizeRequest request;
  request.set_tokenizer(flags.name);
  BDH_ASSIGN_OR_RETURN(*request.mutable_text(), TextOf(flags.text));
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer loader = mesh.DataLoader();
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  BDH_ASSIGN_OR_RETURN(const auto response,
                       loader.Call(*stub, &Loader::Tokenize, request, mesh.call_timeout()));
  if (flags.mesh.json) {
    PrintJson(ToJson(response));
  } else {
    std::cout << absl::StrJoin(response.tokens(), " ") << "\n";
  }
  return kExitOk;
}

absl::StatusOr<int> RunDecode(const DecodeFlags& flags) {
  v1::DetokenizeRequest request;
  request.set_tokenizer(flags.name);
  for (const int32_t token : flags.tokens) request.add_tokens(token);
  if (flags.tokens.empty()) {
    BDH_ASSIGN_OR_RETURN(const std::string text, TextOf("-"));
    for (const auto word : absl::StrSplit(text, absl::ByAnyChar(" \t\r\n,[]"), absl::SkipEmpty())) {
      int32_t token = 0;
      if (!absl::SimpleAtoi(word, &token)) {
        return absl::InvalidArgumentError(
            absl::StrFormat("'%s' is not a token; want numbers with spaces between them", std::string(word)));
      }
      request.add_tokens(token);
    }
  }
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer loader = mesh.DataLoader();
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  BDH_ASSIGN_OR_RETURN(const auto response,
                       loader.Call(*stub, &Loader::Detokenize, request, mesh.call_timeout()));
  if (flags.mesh.json) {
    PrintJson({{"text", response.text()}});
  } else {
    std::cout << response.text() << std::flush;
  }
  return kExitOk;
}

void DefineTrain(CLI::App& command, TrainFlags& flags) {
  command.add_option("name", flags.name, "1 to 64 of [a-z0-9._-]")->required()->type_name("NAME");
  command.add_option("files", flags.files, "Files to learn from; - is standard input")->type_name("FILE");
  command
      .add_option(
          "--server-path", flags.server_paths,
          "Instead of FILE: a file, folder or pattern that the data-loader reads itself; may be repeated")
      ->type_name("PATH")
      ->allow_extra_args(false);
  command.add_option("--dataset", flags.dataset, "Instead of FILE: the training split of a data set")
      ->type_name("NAME");
  command.add_option("--kind", flags.kind, "bpe, wordpiece or unigram (default: bpe)")
      ->type_name("KIND")
      ->transform(CLI::CheckedTransformer(kKinds));
  command.add_option("--vocab-size", flags.vocab_size, "Tokens in all (default: 8192)")->type_name("N");
  command.add_option("--special", flags.special_tokens, "A special token; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command
      .add_option("--split", flags.split, "How text is cut before merging: gpt2 or llama3 (default: gpt2)")
      ->type_name("PATTERN");
  command.add_option("--min-frequency", flags.min_frequency, "Rarer pairs are not merged (default: 2)")
      ->type_name("N");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "Examples:\n"
      "  bdhctl tokenizer train mine books/*.txt --vocab-size 8192\n"
      "  bdhctl tokenizer train mine --dataset books --kind unigram");
}

void DefineName(CLI::App& command, NameFlags& flags) {
  command.add_option("name", flags.name, "The tokenizer")->required()->type_name("NAME");
  AddMeshFlags(command, flags.mesh);
}

void DefineImport(CLI::App& command, ImportFlags& flags) {
  command.add_option("name", flags.name, "1 to 64 of [a-z0-9._-]")->required()->type_name("NAME");
  command.add_option("files", flags.files, "tokenizer.json, tokenizer.model, ... or the folder they are in")
      ->required()
      ->type_name("PATH");
  AddMeshFlags(command, flags.mesh);
}

void DefineExport(CLI::App& command, ExportFlags& flags) {
  command.add_option("name", flags.name, "The tokenizer")->required()->type_name("NAME");
  command.add_option("folder", flags.folder, "Where its files go")->required()->type_name("FOLDER");
  AddMeshFlags(command, flags.mesh);
}

void DefineEncode(CLI::App& command, EncodeFlags& flags) {
  command.add_option("name", flags.name, "The tokenizer")->required()->type_name("NAME");
  command.add_option("text", flags.text, "What to tokenize (default: standard input), at most 1 MiB")
      ->type_name("TEXT");
  AddMeshFlags(command, flags.mesh);
}

void DefineDecode(CLI::App& command, DecodeFlags& flags) {
  command.add_option("name", flags.name, "The tokenizer")->required()->type_name("NAME");
  command.add_option("tokens", flags.tokens, "Tokens (default: standard input)")->type_name("TOKEN");
  AddMeshFlags(command, flags.mesh);
}

}  // namespace

void AddTokenizerCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("tokenizer", "Tokenizers: how text becomes tokens");
  group->require_subcommand(1);
  AddCommand<TrainFlags>(*group, invocation, "train", "Make one from text", DefineTrain, RunTrain);
  AddCommand<ImportFlags>(*group, invocation, "import", "Take over a tokenizer.json or a SentencePiece model",
                          DefineImport, RunImport);
  AddCommand<ExportFlags>(*group, invocation, "export", "Write its files into a folder", DefineExport,
                          RunExport);
  AddCommand<MeshFlags>(*group, invocation, "ls", "List tokenizers", AddMeshFlags, RunList);
  AddCommand<NameFlags>(*group, invocation, "show", "What is in one", DefineName, RunShow);
  AddCommand<EncodeFlags>(*group, invocation, "encode", "Text to tokens", DefineEncode, RunEncode);
  AddCommand<DecodeFlags>(*group, invocation, "decode", "Tokens to text", DefineDecode, RunDecode);
  AddCommand<NameFlags>(*group, invocation, "rm", "Delete one that no data set is made with", DefineName,
                        RunRemove);
}

}  // namespace bdh::bdhctl
