// bdhctl data: text into data sets.
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/mutex.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;
using CreateStream = grpc::ClientReaderWriter<v1::CreateDatasetRequest, v1::CreateDatasetResponse>;

constexpr size_t kChunkBytes = 256 << 10;
constexpr absl::Duration kUploadTimeout = absl::Hours(24);
constexpr int kBarWidth = 24;

struct AddFlags {
  MeshFlags mesh;
  std::string name;
  std::vector<std::string> files, server_paths;
  std::string tokenizer;
  double validation_fraction = -1;
};

struct File {
  std::string name;
  std::unique_ptr<FILE, int (*)(FILE*)> handle;
};

// "-" is standard input. Opened before anything is sent, so that a wrong name costs nothing.
absl::StatusOr<std::vector<File>> OpenAll(const std::vector<std::string>& names) {
  std::vector<File> files;
  for (const std::string& name : names) {
    if (name == "-") {
      files.push_back({name, {stdin, [](FILE*) { return 0; }}});
      continue;
    }
    if (std::filesystem::is_directory(name)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s is a folder; name its files (%s/*.txt), or use --server-path %s", name, name, name));
    }
    FILE* handle = std::fopen(name.c_str(), "rbe");
    if (handle == nullptr) return absl::InvalidArgumentError(ErrnoStatus(errno, "open " + name).message());
    files.push_back({name, {handle, &std::fclose}});
  }
  return files;
}

// 0 when one of them has no size, as a pipe.
int64_t TotalBytes(const std::vector<File>& files) {
  int64_t total = 0;
  for (const File& file : files) {
    struct stat info;
    if (fstat(fileno(file.handle.get()), &info) != 0 || !S_ISREG(info.st_mode)) return 0;
    total += info.st_size;
  }
  return total;
}

// A byte bar on stderr: standard output is for the result.
class UploadBar {
 public:
  UploadBar(int64_t total, std::string verb) : total_(total), verb_(std::move(verb)) {}

  void Show(int64_t bytes) {
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start_);
    const auto done = static_cast<double>(bytes);
    const std::string rate = seconds > 0.5 ? FormatBytes(static_cast<uint64_t>(done / seconds)) + "/s" : "";
    if (total_ == 0) return line_.Show(absl::StrFormat("%s %s  %s", verb_, FormatBytes(bytes), rate));
    const double fraction = done / static_cast<double>(total_);
    line_.Show(absl::StrFormat("%s %s %3.0f%%  %s of %s  %s", verb_, Bar(fraction, kBarWidth), 100 * fraction,
                               FormatBytes(bytes), FormatBytes(total_), rate));
  }

 private:
  const absl::Time start_ = absl::Now();
  const int64_t total_;
  const std::string verb_;
  ProgressLine line_{stderr};
};

// Sends all text. Returns false when the daemon has ended the stream: its status says why.
absl::StatusOr<bool> SendFiles(const std::vector<File>& files, CreateStream& stream) {
  UploadBar bar(TotalBytes(files), "sending");
  int64_t sent = 0;
  for (const File& file : files) {
    std::string buffer(kChunkBytes, '\0');
    while (true) {
      const size_t got = std::fread(buffer.data(), 1, buffer.size(), file.handle.get());
      if (std::ferror(file.handle.get())) return ErrnoStatus(errno, "read " + file.name);
      if (got == 0) break;
      v1::CreateDatasetRequest request;
      request.mutable_chunk()->set_document(file.name);
      request.mutable_chunk()->set_data(buffer.data(), got);
      if (!stream.Write(request)) return false;
      sent += static_cast<int64_t>(got);
      bar.Show(sent);
    }
  }
  return true;
}

// Reads the answers beside the sending, so that neither side waits for the other.
v1::Dataset ReadAnswers(CreateStream& stream, bool show_progress) {
  v1::Dataset dataset;
  std::unique_ptr<UploadBar> bar;
  v1::CreateDatasetResponse response;
  while (stream.Read(&response)) {
    if (response.has_dataset()) dataset = response.dataset();
    if (!show_progress || !response.has_progress()) continue;
    if (bar == nullptr) bar = std::make_unique<UploadBar>(response.progress().bytes_total(), "reading");
    bar->Show(response.progress().bytes_in());
  }
  return dataset;
}

absl::StatusOr<v1::DatasetSpec> MakeSpec(const AddFlags& flags, const Mesh& mesh) {
  v1::DatasetSpec spec;
  spec.set_name(flags.name);
  spec.set_tokenizer(flags.tokenizer);
  if (flags.validation_fraction >= 0) spec.set_validation_fraction(flags.validation_fraction);
  for (const std::string& path : flags.server_paths) {
    // On this machine a path means what it means in this folder.
    std::error_code ignored;
    spec.add_paths(mesh.folder.has_value() ? std::filesystem::absolute(path, ignored).string() : path);
  }
  return spec;
}

void PrintDataset(const v1::Dataset& dataset, bool json) {
  if (json) return PrintJson(ToJson(dataset));
  std::cout << absl::StrFormat(
      "Data set %s: %d documents, %s, %s tokens to train on and %s to validate with (%s)\n", dataset.name(),
      dataset.documents(), FormatBytes(dataset.bytes_in()), FormatCount(dataset.train_tokens()),
      FormatCount(dataset.validation_tokens()), dataset.tokenizer());
}

absl::StatusOr<int> RunAdd(const AddFlags& flags) {
  if (flags.files.empty() == flags.server_paths.empty()) {
    return absl::InvalidArgumentError(
        "name the files to send (or - for standard input), or those on the server with --server-path");
  }
  BDH_ASSIGN_OR_RETURN(const std::vector<File> files, OpenAll(flags.files));
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  BDH_ASSIGN_OR_RETURN(const v1::DatasetSpec spec, MakeSpec(flags, mesh));

  const mesh::Peer loader = mesh.DataLoader();
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  const auto context = loader.NewContext(kUploadTimeout);
  const auto stream = stub->CreateDataset(context.get());
  v1::Dataset dataset;
  std::thread reader([&] { dataset = ReadAnswers(*stream, /*show_progress=*/files.empty()); });
  v1::CreateDatasetRequest first;
  *first.mutable_spec() = spec;
  absl::StatusOr<bool> sent = stream->Write(first);
  if (*sent) sent = SendFiles(files, *stream);
  // What could not be read here must not be kept as if it were whole.
  if (!sent.ok()) context->TryCancel();
  stream->WritesDone();
  reader.join();
  const absl::Status outcome = loader.Outcome(stream->Finish());
  BDH_RETURN_IF_ERROR(sent.status());
  BDH_RETURN_IF_ERROR(outcome);
  PrintDataset(dataset, flags.mesh.json);
  return kExitOk;
}

absl::StatusOr<int> RunList(const MeshFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags));
  const mesh::Peer loader = mesh.DataLoader();
  const auto stub = v1::DataLoaderService::NewStub(loader.channel());
  BDH_ASSIGN_OR_RETURN(const auto response, loader.Call(*stub, &v1::DataLoaderService::Stub::ListDatasets,
                                                        v1::ListDatasetsRequest(), mesh.call_timeout()));
  if (flags.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  Table table({"NAME", "TOKENIZER", ">DOCUMENTS", ">BYTES", ">TRAIN TOKENS", ">VALIDATION TOKENS"});
  for (const v1::Dataset& dataset : response.datasets()) {
    table.Add({dataset.name(), dataset.tokenizer(), std::to_string(dataset.documents()),
               FormatBytes(dataset.bytes_in()), FormatCount(dataset.train_tokens()),
               FormatCount(dataset.validation_tokens())});
  }
  std::cout << table.ToString();
  if (response.datasets().empty()) std::cout << "None yet: bdhctl data add NAME FILE..." << std::endl;
  return kExitOk;
}

void DefineAdd(CLI::App& command, AddFlags& flags) {
  command.add_option("name", flags.name, "1 to 64 of [a-z0-9._-]")->required()->type_name("NAME");
  command.add_option("files", flags.files, "Text files, each one document; - is standard input")
      ->type_name("FILE");
  command
      .add_option("--server-path", flags.server_paths,
                  "Instead of FILE: a file or folder that the data-loader reads itself; may be repeated")
      ->type_name("PATH")
      ->allow_extra_args(false);
  command.add_option("--tokenizer", flags.tokenizer, "How text becomes tokens (default: byte)")
      ->type_name("NAME");
  command
      .add_option("--validation-fraction", flags.validation_fraction,
                  "Share kept for validation (default: 0.1)")
      ->type_name("0..0.5")
      ->check(CLI::Range(0.0, 0.5));
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "The same name with the same text again is fine; with other text it is refused.\n\n"
      "Examples:\n"
      "  bdhctl data add books a.txt b.txt\n"
      "  bible -f 'gen1:1-rev22:21' | bdhctl data add kjv -\n"
      "  bdhctl data add big --server-path /srv/corpus");
}

}  // namespace

void AddDataCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("data", "Data sets: text that became tokens");
  group->require_subcommand(1);
  AddCommand<AddFlags>(*group, invocation, "add", "Make a data set out of text", DefineAdd, RunAdd);
  AddCommand<MeshFlags>(*group, invocation, "ls", "List data sets", AddMeshFlags, RunList);
}

}  // namespace bdh::bdhctl
