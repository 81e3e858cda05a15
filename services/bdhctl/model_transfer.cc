// bdhctl model import and export: models between files and the checkpoint store.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/hub/hub.h"
#include "bdh/pretrained/pretrained.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "services/bdhctl/client/checkpoint_io.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/model_commands.h"
#include "services/bdhctl/model_record.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

namespace fs = std::filesystem;
using Stub = v1::CheckpointStoreService::Stub;

struct ImportFlags {
  MeshFlags mesh;
  std::string path, name, tag;
  std::optional<int> n_layer;
  std::optional<int64_t> step;
};

struct ExportFlags {
  MeshFlags mesh;
  std::string reference, folder, title, dtype = "f32";
  uint64_t max_shard_bytes = pretrained::SaveOptions().max_shard_bytes;
};

// --- import ---

// "my-model" for .../My_Model.pt: what a run may be called.
std::string NameOf(const std::string& path) {
  // Of hf://models/OWNER/NAME@REVISION it is NAME, dots and all.
  const bool is_hub = absl::StartsWith(path, "hf://");
  fs::path file = fs::absolute(is_hub ? path.substr(0, path.find('@')) : path).lexically_normal();
  if (!file.has_filename()) file = file.parent_path();
  // A directory's own name may have dots.
  std::error_code error;
  std::string name = (is_hub || fs::is_directory(file, error) ? file.filename() : file.stem()).string();
  for (char& c : name) {
    const bool allowed = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-';
    c = allowed ? absl::ascii_tolower(static_cast<unsigned char>(c)) : '-';
  }
  return name;
}

absl::StatusOr<std::string> RunName(const ImportFlags& flags) {
  std::string name = flags.name.empty() ? NameOf(flags.path) : flags.name;
  if (IsResourceName(name)) return name;
  return absl::InvalidArgumentError(
      absl::StrFormat("--name is '%s'; want 1 to 64 of [a-z0-9._-], beginning with a letter or digit", name));
}

absl::StatusOr<v1::Tag> SetTag(const Mesh& mesh, const std::string& tag, const std::string& checkpoint,
                               const std::optional<std::string>& expected) {
  const mesh::Peer store = mesh.Store();
  const auto stub = v1::CheckpointStoreService::NewStub(store.channel());
  v1::SetTagRequest request;
  request.set_tag(tag);
  request.set_reference(checkpoint);
  if (expected) request.set_expected_checkpoint(*expected);
  BDH_ASSIGN_OR_RETURN(const auto response, store.Call(*stub, &Stub::SetTag, request, mesh.call_timeout()));
  return response.tag();
}

// A tag that was named moves. The one we choose does not take another's place.
absl::Status TagImported(const Mesh& mesh, const ImportFlags& flags, const std::string& tag,
                         const std::string& checkpoint) {
  if (!flags.tag.empty()) return SetTag(mesh, tag, checkpoint, std::nullopt).status();
  if (SetTag(mesh, tag, checkpoint, "-").ok()) return absl::OkStatus();
  const absl::Status moved = SetTag(mesh, tag, checkpoint, checkpoint).status();
  if (!absl::IsAborted(moved)) return moved;
  return absl::FailedPreconditionError(
      absl::StrFormat("%s is stored, but the tag %s points to another checkpoint and stays; --tag %s moves "
                      "it, --tag OTHER takes "
                      "another",
                      checkpoint, tag, tag));
}

void PrintImported(const checkpoint_store::PutClient::Result& stored, const std::string& tag,
                   const std::vector<std::string>& notes) {
  const v1::Checkpoint& checkpoint = stored.checkpoint;
  for (const std::string& note : notes) std::cout << "note: " << note << "\n";
  std::cout << absl::StrFormat("Imported %s: %d tensors, %s, of which %s were sent; tag %s\n",
                               checkpoint.name(), checkpoint.tensors_size(),
                               FormatBytes(checkpoint.size_bytes()), FormatBytes(stored.sent_bytes), tag)
            << "Serve it: bdhctl models load " << tag << std::endl;
}

// Where the model lies on this machine. One of the hub is fetched into the cache that Hugging Face's own
// tools use.
absl::StatusOr<std::string> LocalModel(const std::string& path) {
  if (!hub::IsRemote(path)) return path;
  BDH_ASSIGN_OR_RETURN(const hub::Source source, hub::ParseSource(path));
  if (source.url.empty() && source.kind != hub::RepoKind::kModel) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is a data set; want hf://models/OWNER/NAME", path));
  }
  hub::Options options = hub::WithEnvironment({});
  if (options.cache_dir.empty()) options.cache_dir = hub::UsualCacheDir();
  ProgressLine line(stderr);
  BDH_ASSIGN_OR_RETURN(
      const hub::Fetched fetched, hub::Hub(options).Fetch(source, "", [&](const hub::Progress& at) {
        line.Show(
            absl::StrFormat("fetching %s of %s", FormatBytes(at.bytes_done), FormatBytes(at.bytes_total)));
        return true;
      }));
  // Weights alone, without a configuration, are a file.
  const auto is_config = [](const hub::LocalFile& file) { return file.name == "config.json"; };
  if (std::any_of(fetched.files.begin(), fetched.files.end(), is_config)) return fetched.folder;
  for (const hub::LocalFile& file : fetched.files) {
    const std::string kind = fs::path(file.name).extension();
    if (kind == ".safetensors" || kind == ".pt" || kind == ".pth" || kind == ".bin" || !source.url.empty()) {
      return file.path;
    }
  }
  return fetched.folder;
}

absl::StatusOr<int> RunImport(const ImportFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const std::string run, RunName(flags));
  BDH_ASSIGN_OR_RETURN(const std::string path, LocalModel(flags.path));
  BDH_ASSIGN_OR_RETURN(const auto model, pretrained::LoadPretrained(path, {.n_layer = flags.n_layer}));
  v1::Checkpoint header = ToCheckpoint(model);
  if (flags.step) header.set_step(*flags.step);
  header.set_name(absl::StrFormat("runs/%s/steps/%d", run, header.step()));
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  BDH_ASSIGN_OR_RETURN(const auto stored,
                       PutCheckpoint(mesh, header, [&](int i) { return TensorBytes(model, i); }));
  const std::string tag = flags.tag.empty() ? run : flags.tag;
  BDH_RETURN_IF_ERROR(TagImported(mesh, flags, tag, header.name()));
  if (flags.mesh.json) {
    PrintJson({{"checkpoint", ToJson(stored.checkpoint)},
               {"tag", tag},
               {"sent_bytes", stored.sent_bytes},
               {"stored_bytes", stored.stored_bytes},
               {"notes", model.notes()}});
  } else {
    PrintImported(stored, tag, model.notes());
  }
  return kExitOk;
}

void DefineImport(CLI::App& command, ImportFlags& flags) {
  command
      .add_option(
          "path", flags.path,
          "Pretrained directory, .safetensors file, .pt file of torch.save, or hf://models/OWNER/NAME")
      ->required()
      ->type_name("PATH");
  command.add_option("--name", flags.name, "Run to store it under (default: from the file's name)")
      ->type_name("RUN");
  command
      .add_option("--tag", flags.tag, "Tag to point to it; one that exists moves (default: RUN, never moved)")
      ->type_name("TAG");
  command
      .add_option("--n-layer", flags.n_layer,
                  "How often the weights are passed, where no config says it: no weight shows it")
      ->type_name("N");
  command.add_option("--step", flags.step, "Step to store it under (default: what the file says, or 0)")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "Puts a model into the checkpoint store, as runs/RUN/steps/STEP, so that `models load` can serve "
      "it.\n\n"
      "What it takes:\n"
      "  a directory     config.json and model.safetensors, or shards and their index; as `model export` "
      "makes\n"
      "  .safetensors    a state dict of the reference bdh.py, with a config.json beside it or --n-layer\n"
      "  hf://models/OWNER/NAME[@REVISION]   fetched from the hub, into the cache that its own tools use\n"
      "                  (HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE are heard)\n"
      "  .pt, .pth       the same from torch.save, alone or in a dict under model_state_dict, state_dict or "
      "model;\n"
      "                  a config dict beside it is read. No Python runs: a file with objects is refused.\n"
      "Prefixes such as _orig_mod. and module. are taken off, a stray lm_gate is left out. F16, BF16 and "
      "F64\n"
      "become F32. A tensor that is missing, unknown, of another shape or type, or not finite is named.\n\n"
      "Examples:\n"
      "  bdhctl model import ./my-model\n"
      "  bdhctl model import checkpoint.pt --name shakespeare --n-layer 6");
}

// --- export ---

struct Download {
  std::map<std::string, std::vector<float>> values;
  std::vector<pretrained::Weight> weights;
  std::vector<tokenizer::TokenizerFile> tokenizer_files;

  absl::Status Take(const v1::TensorInfo& tensor, const std::string& bytes) {
    if (const std::string file = TokenizerFileOf(tensor); !file.empty()) {
      tokenizer_files.push_back({file, bytes});
      return absl::OkStatus();
    }
    if (tensor.dtype() != v1::DTYPE_F32) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tensor %s is of type %s; this release exports DTYPE_F32", tensor.name(),
                          v1::DType_Name(tensor.dtype())));
    }
    std::vector<float>& floats = values[tensor.name()];
    floats.resize(bytes.size() / sizeof(float));
    std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
    weights.push_back({tensor.name(), {tensor.shape().begin(), tensor.shape().end()}, floats});
    return absl::OkStatus();
  }
};

absl::StatusOr<int> RunExport(const ExportFlags& flags) {
  std::error_code error;
  if (fs::exists(flags.folder, error) &&
      !(fs::is_directory(flags.folder, error) && fs::is_empty(flags.folder, error))) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is there already; name another folder, or remove it", flags.folder));
  }
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  Download download;
  BDH_ASSIGN_OR_RETURN(
      const v1::Checkpoint checkpoint,
      GetWeights(mesh, flags.reference, [&](const v1::TensorInfo& tensor, std::string bytes) {
        return download.Take(tensor, bytes);
      }));
  BDH_ASSIGN_OR_RETURN(auto description, Describe(checkpoint));
  description.title = flags.title.empty() ? flags.reference : flags.title;
  description.tokenizer_files = std::move(download.tokenizer_files);
  const pretrained::SaveOptions options{
      .dtype = flags.dtype == "bf16" ? pretrained::SavedType::kBf16 : pretrained::SavedType::kF32,
      .max_shard_bytes = flags.max_shard_bytes};
  BDH_RETURN_IF_ERROR(pretrained::SavePretrained(flags.folder, description, download.weights, options));
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(flags.folder)) bytes += entry.file_size();
  if (flags.mesh.json) {
    PrintJson({{"checkpoint", checkpoint.name()},
               {"digest", checkpoint.digest()},
               {"folder", flags.folder},
               {"dtype", flags.dtype},
               {"size_bytes", bytes}});
  } else {
    std::cout << absl::StrFormat("Exported %s to %s: %s parameters in %s, %s\n", checkpoint.name(),
                                 flags.folder, FormatCount(spec::ParameterCount(description.config)),
                                 flags.dtype, FormatBytes(bytes));
  }
  return kExitOk;
}

void DefineExport(CLI::App& command, ExportFlags& flags) {
  command.add_option("reference", flags.reference, "Tag or checkpoint")->required()->type_name("REF");
  command.add_option("folder", flags.folder, "Folder to make; there must be nothing in it")
      ->required()
      ->type_name("DIR");
  command.add_option("--dtype", flags.dtype, "Type of the weights (default: f32)")
      ->check(CLI::IsMember({"f32", "bf16"}));
  command
      .add_option("--max-shard-bytes", flags.max_shard_bytes,
                  "Split the weights into files of at most this (default: 5000000000)")
      ->check(CLI::PositiveNumber)
      ->type_name("BYTES");
  command.add_option("--title", flags.title, "Heading of the model card (default: REF)")->type_name("TEXT");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "Writes a pretrained directory, whole or not at all: config.json, model.safetensors with the "
      "reference's\n"
      "names and shapes, tokenizer files, generation_config.json, and a model card with what is known of "
      "the\n"
      "training. bf16 halves the weights and changes each by up to 0.4 %; `model verify --dtype bf16` shows "
      "what\n"
      "that does to a model's numbers. The weights are in memory once while they are written.\n\n"
      "Examples:\n"
      "  bdhctl model export small/best ./small\n"
      "  bdhctl model export runs/small/steps/600 ./small-bf16 --dtype bf16");
}

}  // namespace

void AddModelTransferCommands(CLI::App& group, Invocation& invocation) {
  AddCommand<ImportFlags>(group, invocation, "import", "Put a model's files into the checkpoint store",
                          DefineImport, RunImport);
  AddCommand<ExportFlags>(group, invocation, "export", "Write a model of the checkpoint store as a directory",
                          DefineExport, RunExport);
}

}  // namespace bdh::bdhctl
