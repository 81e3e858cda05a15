// bdhctl ckpt: what the checkpoint store holds.
#include <algorithm>
#include <iostream>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "services/bdhctl/ckpt_commands.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kPageSize = 1000;

struct ListFlags {
  MeshFlags mesh;
  std::string run;
  std::vector<std::string> labels;
  bool tags = false;
};

struct ShowFlags {
  MeshFlags mesh;
  std::string reference;
};

struct HistoryFlags {
  MeshFlags mesh;
  std::string tag;
};

struct NoteFlags {
  MeshFlags mesh;
  std::string reference, text;
  std::vector<std::string> labels;
};

struct TagFlags {
  MeshFlags mesh;
  std::string reference, tag;
};

using LabelMap = google::protobuf::Map<std::string, std::string>;

// "team=red" and so on.
absl::Status ReadLabels(const std::vector<std::string>& texts, LabelMap& labels) {
  for (const std::string& text : texts) {
    const size_t at = text.find('=');
    if (at == std::string::npos || at == 0) {
      return absl::InvalidArgumentError(absl::StrFormat("--label %s: want KEY=VALUE", text));
    }
    labels[text.substr(0, at)] = text.substr(at + 1);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::Checkpoint>> Search(const StoreClient& store, const ListFlags& flags) {
  std::vector<v1::Checkpoint> found;
  v1::SearchCheckpointsRequest request;
  request.set_run(flags.run);
  request.set_page_size(kPageSize);
  BDH_RETURN_IF_ERROR(ReadLabels(flags.labels, *request.mutable_labels()));
  do {
    BDH_ASSIGN_OR_RETURN(auto page, store.Call(&AdminStub::SearchCheckpoints, request));
    for (v1::Checkpoint& checkpoint : *page.mutable_checkpoints()) found.push_back(std::move(checkpoint));
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return found;
}

absl::StatusOr<int> ListTags(const ListFlags& flags, const StoreClient& store) {
  BDH_ASSIGN_OR_RETURN(const auto response, store.Call(&CheckpointStub::ListTags, v1::ListTagsRequest()));
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
  const StoreClient store(mesh);
  if (flags.tags) return ListTags(flags, store);
  BDH_ASSIGN_OR_RETURN(const auto checkpoints,
                       flags.labels.empty() ? ListAllCheckpoints(store, flags.run) : Search(store, flags));
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
  if (checkpoints.empty() && flags.labels.empty())
    std::cout << "None yet: bdhctl train start --dataset NAME" << std::endl;
  return kExitOk;
}

absl::StatusOr<int> RunTag(const TagFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::SetTagRequest request;
  request.set_reference(flags.reference);
  request.set_tag(flags.tag);
  BDH_ASSIGN_OR_RETURN(const auto response, StoreClient(mesh).Call(&CheckpointStub::SetTag, request));
  if (flags.mesh.json) {
    PrintJson(ToJson(response.tag()));
  } else {
    std::cout << response.tag().name() << " is now " << response.tag().checkpoint() << std::endl;
  }
  return kExitOk;
}

struct UntagFlags {
  MeshFlags mesh;
  std::string tag;
};

absl::StatusOr<int> RunUntag(const UntagFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::DeleteTagRequest request;
  request.set_tag(flags.tag);
  BDH_RETURN_IF_ERROR(StoreClient(mesh).Call(&CheckpointStub::DeleteTag, request).status());
  if (flags.mesh.json) {
    PrintJson({{"tag", flags.tag}});
  } else {
    std::cout << flags.tag << " is no tag any more; what it pointed to stays" << std::endl;
  }
  return kExitOk;
}

std::string ShapeOf(const v1::TensorInfo& tensor) {
  return absl::StrFormat("[%s]", absl::StrJoin(tensor.shape(), ", "));
}

// The note of a checkpoint: among those of its run.
absl::StatusOr<v1::CheckpointNote> FindNote(const StoreClient& store, const std::string& name) {
  v1::SearchCheckpointsRequest request;
  request.set_run(name.substr(5, name.find('/', 5) - 5));
  request.set_page_size(kPageSize);
  do {
    BDH_ASSIGN_OR_RETURN(const auto page, store.Call(&AdminStub::SearchCheckpoints, request));
    for (int i = 0; i < page.checkpoints_size(); ++i) {
      if (page.checkpoints(i).name() == name) return page.notes(i);
    }
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return v1::CheckpointNote();
}

void PrintFacts(const v1::Checkpoint& checkpoint, const v1::CheckpointNote& note) {
  const auto line = [](const char* what, const std::string& value) {
    if (!value.empty()) std::cout << absl::StrFormat("%-12s %s\n", what, value);
  };
  line("checkpoint", checkpoint.name());
  line("tags", absl::StrJoin(checkpoint.tags(), " "));
  line("made", absl::StrFormat("%s on %s by version %s", When(checkpoint.create_time()), checkpoint.host(),
                               checkpoint.software_version()));
  line("parent", checkpoint.parent());
  line("step",
       absl::StrFormat("%d, %s tokens seen", checkpoint.step(), FormatCount(checkpoint.tokens_seen())));
  if (checkpoint.has_train_loss()) line("loss", absl::StrFormat("%.4f", checkpoint.train_loss()));
  if (checkpoint.has_validation_loss()) {
    line("validation", absl::StrFormat("%.4f", checkpoint.validation_loss()));
  }
  line("tokenizer", checkpoint.tokenizer());
  line("size",
       absl::StrFormat("%s in %d tensors", FormatBytes(checkpoint.size_bytes()), checkpoint.tensors_size()));
  line("digest", checkpoint.digest());
  line("note", note.text());
  for (const auto& [key, value] : note.labels()) line("label", key + "=" + value);
}

absl::StatusOr<int> RunShow(const ShowFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  const StoreClient store(mesh);
  v1::DescribeCheckpointRequest request;
  request.set_reference(flags.reference);
  BDH_ASSIGN_OR_RETURN(const auto response, store.Call(&CheckpointStub::DescribeCheckpoint, request));
  const v1::Checkpoint& checkpoint = response.checkpoint();
  BDH_ASSIGN_OR_RETURN(const v1::CheckpointNote note, FindNote(store, checkpoint.name()));
  if (flags.mesh.json) {
    PrintJson({{"checkpoint", ToJson(checkpoint)}, {"note", ToJson(note)}});
    return kExitOk;
  }
  PrintFacts(checkpoint, note);
  int64_t largest = 1;
  for (const v1::TensorInfo& tensor : checkpoint.tensors()) largest = std::max(largest, tensor.size_bytes());
  Table table({"TENSOR", "TYPE", "SHAPE", ">SIZE", ""});
  for (const v1::TensorInfo& tensor : checkpoint.tensors()) {
    table.Add({tensor.name(), v1::DType_Name(tensor.dtype()).substr(6), ShapeOf(tensor),
               FormatBytes(tensor.size_bytes()),
               Bar(static_cast<double>(tensor.size_bytes()) / static_cast<double>(largest), 16)});
  }
  std::cout << "\n" << table.ToString();
  return kExitOk;
}

absl::StatusOr<int> RunHistory(const HistoryFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::ListTagHistoryRequest request;
  request.set_tag(flags.tag);
  request.set_page_size(kPageSize);
  BDH_ASSIGN_OR_RETURN(const auto response, StoreClient(mesh).Call(&AdminStub::ListTagHistory, request));
  if (flags.mesh.json) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  Table table({"FROM", "CHECKPOINT"});
  for (const v1::TagChange& change : response.changes()) {
    table.Add({When(change.time()), change.checkpoint().empty() ? "(deleted)" : change.checkpoint()});
  }
  std::cout << table.ToString();
  return kExitOk;
}

absl::StatusOr<int> RunNote(const NoteFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  v1::AnnotateRequest request;
  request.set_checkpoint(flags.reference);
  request.mutable_note()->set_text(flags.text);
  BDH_RETURN_IF_ERROR(ReadLabels(flags.labels, *request.mutable_note()->mutable_labels()));
  BDH_RETURN_IF_ERROR(StoreClient(mesh).Call(&AdminStub::Annotate, request).status());
  if (flags.mesh.json) {
    PrintJson({{"reference", flags.reference}, {"note", ToJson(request.note())}});
  } else {
    std::cout << "Noted on " << flags.reference << std::endl;
  }
  return kExitOk;
}

void DefineUntag(CLI::App& command, UntagFlags& flags) {
  command.add_option("tag", flags.tag, "Tag to delete")->required()->type_name("TAG");
  AddMeshFlags(command, flags.mesh);
}

void DefineShow(CLI::App& command, ShowFlags& flags) {
  command.add_option("reference", flags.reference, "Checkpoint or tag")->required()->type_name("REF");
  AddMeshFlags(command, flags.mesh);
}

void DefineHistory(CLI::App& command, HistoryFlags& flags) {
  command.add_option("tag", flags.tag, "A tag that is or was")->required()->type_name("TAG");
  AddMeshFlags(command, flags.mesh);
}

void DefineNote(CLI::App& command, NoteFlags& flags) {
  command.add_option("reference", flags.reference, "Checkpoint or tag")->required()->type_name("REF");
  command.add_option("text", flags.text, "What to say about it; replaces what was said")->type_name("TEXT");
  command.add_option("--label", flags.labels, "To find it by; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  AddMeshFlags(command, flags.mesh);
  command.footer("Example:\n  bdhctl ckpt note small/best 'before the new data' --label data=v1");
}

void DefineList(CLI::App& command, ListFlags& flags) {
  command.add_option("--run", flags.run, "Only this run's")->type_name("RUN");
  command.add_option("--label", flags.labels, "Only those whose note has this label; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
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

StoreClient::StoreClient(mesh::Peer peer, absl::Duration timeout)
    : peer_(std::move(peer)),
      timeout_(timeout),
      admin_(v1::CheckpointAdminService::NewStub(peer_.channel())),
      checkpoints_(v1::CheckpointStoreService::NewStub(peer_.channel())) {}

std::string When(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixSeconds(time.seconds()), absl::LocalTimeZone());
}

absl::StatusOr<std::vector<v1::Checkpoint>> ListAllCheckpoints(const StoreClient& store,
                                                               const std::string& run) {
  std::vector<v1::Checkpoint> all;
  v1::ListCheckpointsRequest request;
  request.set_run(run);
  request.set_page_size(kPageSize);
  do {
    BDH_ASSIGN_OR_RETURN(auto page, store.Call(&CheckpointStub::ListCheckpoints, request));
    for (v1::Checkpoint& checkpoint : *page.mutable_checkpoints()) all.push_back(std::move(checkpoint));
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return all;
}

void AddCheckpointCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("ckpt", "Checkpoints and tags");
  group->require_subcommand(1);
  AddCommand<ListFlags>(*group, invocation, "ls", "List checkpoints, newest first", DefineList, RunList);
  AddCommand<ShowFlags>(*group, invocation, "show", "Show a checkpoint and its tensors", DefineShow, RunShow);
  AddCommand<TagFlags>(*group, invocation, "tag", "Point a tag to a checkpoint", DefineTag, RunTag);
  AddCommand<UntagFlags>(*group, invocation, "untag", "Delete a tag", DefineUntag, RunUntag);
  AddCommand<HistoryFlags>(*group, invocation, "history", "Where a tag pointed", DefineHistory, RunHistory);
  AddCommand<NoteFlags>(*group, invocation, "note", "Say something about a checkpoint", DefineNote, RunNote);
  AddModelOpCommands(*group, invocation);
  AddModelTransferCommands(*group, invocation);
  AddCopyCommands(*group, invocation);
  AddCareCommands(*group, invocation);
  AddRepairCommand(*group, invocation);
}

}  // namespace bdh::bdhctl
