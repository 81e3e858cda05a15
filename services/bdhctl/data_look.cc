// bdhctl data ls, show, sample, verify, export, rm: what is in data sets.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "bdh/v1/tokenizers.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/data_commands.h"
#include "services/bdhctl/proto_json.h"
#include "services/bdhctl/transfer.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;
using Loader = v1::DataLoaderService::Stub;
using Lookup = v1::DatasetService::Stub;

constexpr absl::Duration kReadTimeout = absl::Hours(24);
constexpr int kBarWidth = 40;

struct NameFlags {
  MeshFlags mesh;
  std::string name;
};

struct SampleFlags {
  MeshFlags mesh;
  std::string name;
  int count = 3;
  uint64_t seed = 0;
};

struct ExportFlags {
  MeshFlags mesh;
  std::string name, output;
  v1::Split split = v1::SPLIT_UNSPECIFIED;
};

struct RemoveFlags {
  MeshFlags mesh;
  std::vector<std::string> names;
};

std::string OrderName(v1::Order order) {
  std::string name = v1::Order_Name(order).substr(std::string("ORDER_").size());
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

// What a person has to know about its state.
std::string Note(const v1::Dataset& dataset) {
  if (!dataset.complete()) return "being tokenized";
  std::vector<std::string> parts;
  for (const v1::DatasetPart& part : dataset.parts()) {
    parts.push_back(absl::StrFormat("%s=%g", part.dataset(), part.weight()));
  }
  return absl::StrJoin(parts, " ");
}

absl::StatusOr<int> RunList(const MeshFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags));
  const mesh::Peer loader = mesh.DataLoader();
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  BDH_ASSIGN_OR_RETURN(const auto response, loader.Call(*stub, &Loader::ListDatasets,
                                                        v1::ListDatasetsRequest(), mesh.call_timeout()));
  if (flags.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  Table table(
      {"NAME", "TOKENIZER", "ORDER", ">DOCUMENTS", ">BYTES", ">TRAIN TOKENS", ">VALIDATION TOKENS", ""});
  for (const v1::Dataset& dataset : response.datasets()) {
    table.Add({dataset.name(), dataset.tokenizer(), OrderName(dataset.order()),
               std::to_string(dataset.documents()), FormatBytes(dataset.bytes_in()),
               FormatCount(dataset.train_tokens()), FormatCount(dataset.validation_tokens()), Note(dataset)});
  }
  std::cout << table.ToString();
  if (response.datasets().empty()) std::cout << "None yet: bdhctl data add NAME FILE..." << std::endl;
  return kExitOk;
}

void PrintLengths(const v1::GetDatasetReportResponse& report) {
  int64_t most = 1;
  for (const auto& bin : report.lengths()) most = std::max(most, bin.documents());
  if (report.lengths().empty()) return;
  Table table({">TOKENS UP TO", ">DOCUMENTS", ""});
  for (const auto& bin : report.lengths()) {
    if (bin.documents() == 0) continue;
    const auto width = static_cast<size_t>(std::max<int64_t>(1, bin.documents() * kBarWidth / most));
    table.Add({std::to_string(bin.tokens_below()), std::to_string(bin.documents()), std::string(width, '#')});
  }
  std::cout << "\n" << table.ToString();
}

void PrintReport(const v1::GetDatasetReportResponse& report) {
  std::cout << absl::StrFormat("read        %d documents, %s\n", report.documents_in(),
                               FormatBytes(report.bytes_in()));
  std::cout << absl::StrFormat("kept        %d documents, %s\n", report.documents_kept(),
                               FormatBytes(report.bytes_kept()));
  for (const auto& dropped : report.dropped()) {
    std::cout << absl::StrFormat("dropped     %d documents, %s: %s\n", dropped.documents(),
                                 FormatBytes(dropped.bytes()), dropped.reason());
  }
  constexpr int kSources = 10;
  for (int i = 0; i < std::min(report.sources_size(), kSources); ++i) {
    std::cout << absl::StrFormat("%-12s%s\n", i == 0 ? "sources" : "", report.sources(i));
  }
  if (report.sources_size() > kSources)
    std::cout << absl::StrFormat("%12s%d more\n", "", report.sources_size() - kSources);
}

absl::StatusOr<int> RunShow(const NameFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer loader = mesh.DataLoader();
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  const auto lookup = v1::DatasetService::NewStub(loader.channel());
  v1::DescribeDatasetRequest describe;
  describe.set_name(flags.name);
  BDH_ASSIGN_OR_RETURN(const auto described,
                       loader.Call(*stub, &Loader::DescribeDataset, describe, mesh.call_timeout()));
  v1::GetDatasetReportRequest request;
  request.set_dataset(flags.name);
  BDH_ASSIGN_OR_RETURN(const auto report,
                       loader.Call(*lookup, &Lookup::GetDatasetReport, request, mesh.call_timeout()));
  if (flags.mesh.json) {
    Json json = ToJson(described);
    json["report"] = ToJson(report);
    PrintJson(json);
    return kExitOk;
  }
  const v1::Dataset& dataset = described.dataset();
  std::cout << absl::StrFormat("name        %s%s\n", dataset.name(),
                               dataset.complete() ? "" : " (being tokenized)");
  std::cout << absl::StrFormat("hash        %s\n", dataset.hash());
  std::cout << absl::StrFormat("tokenizer   %s, %d tokens%s\n", dataset.tokenizer(), dataset.vocab_size(),
                               dataset.end_of_text() ? ", documents end with its end of text" : "");
  std::cout << absl::StrFormat("order       %s\n", OrderName(dataset.order()));
  std::cout << absl::StrFormat("train       %s tokens\n", FormatCount(dataset.train_tokens()));
  std::cout << absl::StrFormat(
      "validation  %s tokens, %s\n", FormatCount(dataset.validation_tokens()),
      dataset.split_rule() == v1::SPLIT_RULE_DOCUMENT ? "whole documents" : "the tails of documents");
  std::cout << absl::StrFormat("shards      %d\n", described.shards_size());
  for (const v1::DatasetPart& part : dataset.parts()) {
    std::cout << absl::StrFormat("part        %s, weight %g\n", part.dataset(), part.weight());
  }
  PrintReport(report);
  PrintLengths(report);
  return kExitOk;
}

absl::StatusOr<int> RunSample(const SampleFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer loader = mesh.DataLoader();
  const auto lookup = v1::DatasetService::NewStub(loader.channel());
  v1::SampleDatasetRequest request;
  request.set_dataset(flags.name);
  request.set_count(flags.count);
  request.set_seed(flags.seed);
  BDH_ASSIGN_OR_RETURN(const auto response,
                       loader.Call(*lookup, &Lookup::SampleDataset, request, mesh.call_timeout()));
  if (flags.mesh.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  for (const auto& document : response.documents()) {
    std::cout << absl::StrFormat("--- %s, %d tokens\n%s\n", document.name(), document.tokens(),
                                 document.text());
  }
  return kExitOk;
}

absl::StatusOr<int> RunVerify(const NameFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer loader = mesh.DataLoader();
  const auto lookup = v1::DatasetService::NewStub(loader.channel());
  v1::VerifyDatasetRequest request;
  request.set_dataset(flags.name);
  const auto context = loader.NewContext(kReadTimeout);
  const auto reader = lookup->VerifyDataset(context.get(), request);
  v1::VerifyDatasetResponse response;
  {
    ByteBar bar("verifying", 0);
    while (reader->Read(&response)) bar.Show("verifying", response.bytes_done(), response.bytes_total(), "");
  }
  BDH_RETURN_IF_ERROR(loader.Outcome(reader->Finish()));
  if (flags.mesh.json) {
    PrintJson(ToJson(response));
  } else {
    std::cout << absl::StrFormat("Data set %s is whole: %s read, every sum is right\n", flags.name,
                                 FormatBytes(response.bytes_total()));
  }
  return kExitOk;
}

absl::StatusOr<int> RunExport(const ExportFlags& flags) {
  std::unique_ptr<FILE, int (*)(FILE*)> out(stdout, [](FILE* file) { return std::fflush(file); });
  if (!flags.output.empty()) {
    FILE* const file = std::fopen(flags.output.c_str(), "wbxe");
    if (file == nullptr) return ErrnoStatus(errno, "create " + flags.output);
    out = {file, &std::fclose};
  }
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer loader = mesh.DataLoader();
  const auto lookup = v1::DatasetService::NewStub(loader.channel());
  v1::ExportDatasetRequest request;
  request.set_dataset(flags.name);
  request.set_split(flags.split);
  const auto context = loader.NewContext(kReadTimeout);
  const auto reader = lookup->ExportDataset(context.get(), request);
  for (v1::TextChunk chunk; reader->Read(&chunk);) {
    const std::string text = flags.mesh.json ? Json({{"document", chunk.document()}, {"text", chunk.data()}})
                                                       .dump(-1, ' ', false, Json::error_handler_t::replace) +
                                                   "\n"
                                             : chunk.data();
    if (std::fwrite(text.data(), 1, text.size(), out.get()) == text.size()) continue;
    const int error = errno;
    context->TryCancel();
    (void)reader->Finish();  // Cancelled by us.
    return ErrnoStatus(error, "write " + (flags.output.empty() ? std::string("the text") : flags.output));
  }
  BDH_RETURN_IF_ERROR(loader.Outcome(reader->Finish()));
  if (FILE* const file = out.release(); file == stdout ? std::fflush(file) != 0 : std::fclose(file) != 0) {
    return ErrnoStatus(errno, "write the text");
  }
  return kExitOk;
}

absl::StatusOr<int> RunRemove(const RemoveFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer loader = mesh.DataLoader();
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  for (const std::string& name : flags.names) {
    v1::DeleteDatasetRequest request;
    request.set_name(name);
    BDH_RETURN_IF_ERROR(loader.Call(*stub, &Loader::DeleteDataset, request, mesh.call_timeout()).status());
    if (!flags.mesh.json) std::cout << absl::StrFormat("Deleted data set %s\n", name);
  }
  if (flags.mesh.json) PrintJson({{"deleted", flags.names}});
  return kExitOk;
}

void DefineName(CLI::App& command, NameFlags& flags) {
  command.add_option("name", flags.name, "The data set")->required()->type_name("NAME");
  AddMeshFlags(command, flags.mesh);
}

void DefineSample(CLI::App& command, SampleFlags& flags) {
  command.add_option("name", flags.name, "The data set")->required()->type_name("NAME");
  command.add_option("-n,--count", flags.count, "How many documents (default: 3)")->check(CLI::Range(1, 100));
  command.add_option("--seed", flags.seed, "Another seed draws other documents");
  AddMeshFlags(command, flags.mesh);
}

void DefineExport(CLI::App& command, ExportFlags& flags) {
  command.add_option("name", flags.name, "The data set")->required()->type_name("NAME");
  command.add_option("-o,--output", flags.output, "A file that is not there yet (default: standard output)")
      ->type_name("FILE");
  command.add_option("--split", flags.split, "train or validation (default: both)")
      ->transform(CLI::CheckedTransformer(std::map<std::string, v1::Split>{
          {"train", v1::SPLIT_TRAIN}, {"validation", v1::SPLIT_VALIDATION}}));
  AddMeshFlags(command, flags.mesh);
  command.footer("With --json each line is an object with the document's name and a piece of its text.");
}

void DefineRemove(CLI::App& command, RemoveFlags& flags) {
  command.add_option("names", flags.names, "Data sets")->required()->type_name("NAME");
  AddMeshFlags(command, flags.mesh);
}

}  // namespace

void AddDataLooking(CLI::App& group, Invocation& invocation) {
  AddCommand<MeshFlags>(group, invocation, "ls", "List data sets", AddMeshFlags, RunList);
  AddCommand<NameFlags>(group, invocation, "show", "What is in one: report, splits, lengths", DefineName,
                        RunShow);
  AddCommand<SampleFlags>(group, invocation, "sample", "Print some of its documents", DefineSample,
                          RunSample);
  AddCommand<NameFlags>(group, invocation, "verify", "Compare all its bytes with their sums", DefineName,
                        RunVerify);
  AddCommand<ExportFlags>(group, invocation, "export", "Write its text", DefineExport, RunExport);
  AddCommand<RemoveFlags>(group, invocation, "rm", "Delete data sets", DefineRemove, RunRemove);
}

}  // namespace bdh::bdhctl
