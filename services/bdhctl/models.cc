// bdhctl models: what bdh-inference serves.
#include <filesystem>
#include <iostream>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/v1/inference.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

using Stub = v1::InferenceService::Stub;

// Weights are streamed from the store and checked.
constexpr absl::Duration kLoadTimeout = absl::Minutes(10);

struct LoadFlags {
  MeshFlags mesh;
  std::string reference, id;
};

struct UnloadFlags {
  MeshFlags mesh;
  std::string id;
};

absl::StatusOr<int> RunList(const MeshFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags));
  const mesh::Peer inference = mesh.Inference();
  const auto stub = v1::InferenceService::NewStub(inference.channel());
  BDH_ASSIGN_OR_RETURN(const auto response, inference.Call(*stub, &Stub::ListModels, v1::ListModelsRequest(),
                                                           mesh.call_timeout()));
  if (flags.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  Table table({"ID", "CHECKPOINT", ">PARAMETERS", ">WEIGHTS", ">STATE", ">CONTEXT"});
  for (const v1::Model& model : response.models()) {
    table.Add({model.id(), model.checkpoint(), FormatCount(model.parameter_count()),
               FormatBytes(model.weight_bytes()), FormatBytes(model.state_bytes()),
               FormatCount(model.max_context_tokens())});
  }
  std::cout << table.ToString();
  if (response.models().empty()) std::cout << "None loaded: bdhctl models load TAG" << std::endl;
  return kExitOk;
}

// No tag begins as a path does.
bool IsPath(const std::string& reference) {
  return reference.starts_with("/") || reference.starts_with("./") || reference.starts_with("../");
}

// What bdh-inference is asked for: paths absolute, and then under the folder's name where no id was given.
v1::LoadModelRequest Request(const LoadFlags& flags) {
  v1::LoadModelRequest request;
  request.set_reference(flags.reference);
  request.set_id(flags.id);
  if (!IsPath(flags.reference)) return request;
  std::filesystem::path path = std::filesystem::absolute(flags.reference).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  request.set_reference(path.string());
  if (flags.id.empty()) request.set_id(path.filename().string());
  return request;
}

absl::StatusOr<int> RunLoad(const LoadFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer inference = mesh.Inference();
  const auto stub = v1::InferenceService::NewStub(inference.channel());
  BDH_ASSIGN_OR_RETURN(const auto response,
                       inference.Call(*stub, &Stub::LoadModel, Request(flags), kLoadTimeout));
  const v1::Model& model = response.model();
  if (flags.mesh.json) {
    PrintJson(ToJson(model));
  } else {
    std::cout << absl::StrFormat("Model %s serves %s: %s parameters, %s, %s of state a session\n", model.id(),
                                 model.checkpoint(), FormatCount(model.parameter_count()),
                                 FormatBytes(model.weight_bytes()), FormatBytes(model.state_bytes()));
  }
  return kExitOk;
}

absl::StatusOr<int> RunUnload(const UnloadFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer inference = mesh.Inference();
  const auto stub = v1::InferenceService::NewStub(inference.channel());
  v1::UnloadModelRequest request;
  request.set_id(flags.id);
  BDH_RETURN_IF_ERROR(inference.Call(*stub, &Stub::UnloadModel, request, mesh.call_timeout()).status());
  if (flags.mesh.json) {
    PrintJson({{"unloaded", flags.id}});
  } else {
    std::cout << "Model " << flags.id << " is unloaded; generations in flight go on to their end."
              << std::endl;
  }
  return kExitOk;
}

void DefineLoad(CLI::App& command, LoadFlags& flags) {
  command
      .add_option("reference", flags.reference,
                  "Tag or checkpoint to load, or a pretrained directory: ./DIR or /DIR")
      ->required()
      ->type_name("REF");
  command.add_option("--id", flags.id, "What clients call it (default: REF)")->type_name("ID");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "An id in use is replaced once the new model is ready; until then the old one serves. A directory is "
      "read "
      "by\nbdh-inference, so it must be on its machine; --id is then the directory's name.\n\n"
      "Examples:\n"
      "  bdhctl models load small/best --id small\n"
      "  bdhctl models load ./my-model");
}

void DefineUnload(CLI::App& command, UnloadFlags& flags) {
  command.add_option("id", flags.id, "Model to unload")->required()->type_name("ID");
  AddMeshFlags(command, flags.mesh);
}

}  // namespace

void AddModelsCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("models", "Models that are loaded and answer");
  group->require_subcommand(1);
  AddCommand<MeshFlags>(*group, invocation, "ls", "List loaded models", AddMeshFlags, RunList);
  AddCommand<LoadFlags>(*group, invocation, "load", "Load a model from the checkpoint store", DefineLoad,
                        RunLoad);
  AddCommand<UnloadFlags>(*group, invocation, "unload", "Free a model's memory", DefineUnload, RunUnload);
}

}  // namespace bdh::bdhctl
