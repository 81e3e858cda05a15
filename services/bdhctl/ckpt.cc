// bdhctl ckpt: what the checkpoint store holds.
#include <iostream>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;
using Stub = v1::CheckpointStoreService::Stub;

constexpr int kPageSize = 1000;

struct ListFlags {
  MeshFlags mesh;
  std::string run;
  bool tags = false;
};

struct TagFlags {
  MeshFlags mesh;
  std::string reference, tag;
};

std::string When(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixSeconds(time.seconds()), absl::LocalTimeZone());
}

absl::StatusOr<std::vector<v1::Checkpoint>> ListAll(const Mesh& mesh, const std::string& run) {
  const mesh::Peer store = mesh.Store();
  const auto stub = v1::CheckpointStoreService::NewStub(store.channel());
  std::vector<v1::Checkpoint> all;
  v1::ListCheckpointsRequest request;
  request.set_run(run);
  request.set_page_size(kPageSize);
  do {
    BDH_ASSIGN_OR_RETURN(auto page, store.Call(*stub, &Stub::ListCheckpoints, request, mesh.call_timeout()));
    for (v1::Checkpoint& checkpoint : *page.mutable_checkpoints()) all.push_back(std::move(checkpoint));
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return all;
}

absl::StatusOr<int> ListTags(const ListFlags& flags, const Mesh& mesh) {
  const mesh::Peer store = mesh.Store();
  const auto stub = v1::CheckpointStoreService::NewStub(store.channel());
  BDH_ASSIGN_OR_RETURN(const auto response,
                       store.Call(*stub, &Stub::ListTags, v1::ListTagsRequest(), mesh.call_timeout()));
  if (flags.mesh.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  Table table({"TAG", "CHECKPOINT", "MOVED"});
  for (const v1::Tag& tag : response.tags())
    table.Add({tag.name(), tag.checkpoint(), When(tag.update_time())});
  std::cout << table.ToString();
  return kExitOk;
}

absl::StatusOr<int> RunList(const ListFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  if (flags.tags) return ListTags(flags, mesh);
  BDH_ASSIGN_OR_RETURN(const auto checkpoints, ListAll(mesh, flags.run));
  if (flags.mesh.json) {
    Json list = Json::array();
    for (const v1::Checkpoint& checkpoint : checkpoints) list.push_back(ToJson(checkpoint));
    PrintJson({{"checkpoints", list}});
    return kExitOk;
  }
  Table table({"CHECKPOINT", ">STEP", ">LOSS", ">VALIDATION", ">SIZE", "MADE", "TAGS"});
  for (const v1::Checkpoint& checkpoint : checkpoints) {
    table.Add({checkpoint.name(), std::to_string(checkpoint.step()),
               checkpoint.has_train_loss() ? absl::StrFormat("%.3f", checkpoint.train_loss()) : "-",
               checkpoint.has_validation_loss() ? absl::StrFormat("%.3f", checkpoint.validation_loss()) : "-",
               FormatBytes(checkpoint.size_bytes()), When(checkpoint.create_time()),
               absl::StrJoin(checkpoint.tags(), " ")});
  }
  std::cout << table.ToString();
  if (checkpoints.empty()) std::cout << "None yet: bdhctl train start --dataset NAME" << std::endl;
  return kExitOk;
}

absl::StatusOr<int> RunTag(const TagFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const mesh::Peer store = mesh.Store();
  const auto stub = v1::CheckpointStoreService::NewStub(store.channel());
  v1::SetTagRequest request;
  request.set_reference(flags.reference);
  request.set_tag(flags.tag);
  BDH_ASSIGN_OR_RETURN(const auto response, store.Call(*stub, &Stub::SetTag, request, mesh.call_timeout()));
  if (flags.mesh.json) {
    PrintJson(ToJson(response.tag()));
  } else {
    std::cout << response.tag().name() << " is now " << response.tag().checkpoint() << std::endl;
  }
  return kExitOk;
}

void DefineList(CLI::App& command, ListFlags& flags) {
  command.add_option("--run", flags.run, "Only this run's")->type_name("RUN");
  command.add_flag("--tags", flags.tags, "List tags and what they point to");
  AddMeshFlags(command, flags.mesh);
}

void DefineTag(CLI::App& command, TagFlags& flags) {
  command.add_option("reference", flags.reference, "Checkpoint (runs/RUN/steps/STEP) or another tag")
      ->required()
      ->type_name("REF");
  command.add_option("tag", flags.tag, "Name to give it; a tag that exists moves")
      ->required()
      ->type_name("TAG");
  AddMeshFlags(command, flags.mesh);
  command.footer("Example:\n  bdhctl ckpt tag runs/small/steps/600 release");
}

}  // namespace

void AddCheckpointCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("ckpt", "Checkpoints and tags");
  group->require_subcommand(1);
  AddCommand<ListFlags>(*group, invocation, "ls", "List checkpoints, newest first", DefineList, RunList);
  AddCommand<TagFlags>(*group, invocation, "tag", "Point a tag to a checkpoint", DefineTag, RunTag);
}

}  // namespace bdh::bdhctl
