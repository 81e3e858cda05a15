// bdhctl ckpt repair: right bytes for damaged chunks, from a second store or from an exported directory.
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "bdh/base/sha256.h"
#include "bdh/base/status_macros.h"
#include "bdh/pretrained/pretrained.h"
#include "services/bdhctl/ckpt_commands.h"
#include "services/bdhctl/model_record.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

struct RepairFlags {
  MeshFlags mesh;
  std::string source, folder;
};

// A damaged chunk, where it stands in a tensor.
struct Spot {
  size_t offset = 0, size = 0;
  std::string digest;
};

std::map<std::string, std::vector<Spot>> SpotsByTensor(const v1::VerifyResult& known) {
  std::map<std::string, std::vector<Spot>> spots;
  for (const v1::Damage& damage : known.damage()) {
    for (int i = 0; i < damage.tensors_size() && i < damage.offsets_size(); ++i) {
      spots[damage.tensors(i)].push_back({static_cast<size_t>(damage.offsets(i)),
                                          static_cast<size_t>(damage.size_bytes()), damage.digest()});
    }
  }
  return spots;
}

// Sends the right bytes of damaged chunks; each once.
class Healer {
 public:
  explicit Healer(const Mesh& mesh)
      : store_(mesh.Store()),
        admin_(v1::CheckpointAdminService::NewStub(store_.channel())),
        context_(store_.NewContext(absl::Hours(1))),
        writer_(admin_->PutChunks(context_.get(), &response_)) {}

  // False: the store has ended the call.
  bool Try(std::string_view tensor, const Spot& spot) {
    if (spot.offset > tensor.size() || spot.size > tensor.size() - spot.offset) return true;
    const std::string_view bytes = tensor.substr(spot.offset, spot.size);
    if (sha_.Of(bytes).view() != spot.digest || !sent_.insert(spot.digest).second) return true;
    v1::PutChunksRequest request;
    request.set_digest(spot.digest);
    request.set_data(std::string(bytes));
    return writer_->Write(request);
  }
  absl::StatusOr<int64_t> Finish() {
    writer_->WritesDone();
    BDH_RETURN_IF_ERROR(store_.Outcome(writer_->Finish()));
    return response_.chunks();
  }

 private:
  const mesh::Peer store_;
  const std::unique_ptr<AdminStub> admin_;
  const std::unique_ptr<grpc::ClientContext> context_;
  v1::PutChunksResponse response_;
  const std::unique_ptr<grpc::ClientWriter<v1::PutChunksRequest>> writer_;
  Sha256 sha_;
  std::set<std::string> sent_;
};

absl::StatusOr<int64_t> RepairKnown(const Mesh& mesh, const v1::VerifyResult& known,
                                    const pretrained::PretrainedModel& model) {
  const auto by_tensor = SpotsByTensor(known);
  const v1::Checkpoint header = ToCheckpoint(model);
  Healer healer(mesh);
  bool going_on = true;
  for (int i = 0; going_on && i < header.tensors_size(); ++i) {
    const auto spots = by_tensor.find(header.tensors(i).name());
    if (spots == by_tensor.end()) continue;
    BDH_ASSIGN_OR_RETURN(const std::string bytes, TensorBytes(model, i));
    for (const Spot& spot : spots->second) going_on = going_on && healer.Try(bytes, spot);
  }
  return healer.Finish();
}

// The store lists so much of its damage at a time: again until nothing more can be helped.
absl::StatusOr<v1::RepairResponse> RepairFromFolder(const Mesh& mesh, const std::string& folder) {
  BDH_ASSIGN_OR_RETURN(const auto model, pretrained::LoadPretrained(folder));
  const StoreClient store(mesh);
  v1::VerifyRequest request;
  request.set_known_only(true);
  v1::RepairResponse done;
  while (true) {
    BDH_ASSIGN_OR_RETURN(const auto answer,
                         store.Follow(&AdminStub::Verify, request, [](const v1::VerifyResponse&) {}));
    const v1::VerifyResult& known = answer.result();
    done.set_damaged_chunks(done.repaired_chunks() + known.damaged_chunks());
    if (known.damage().empty()) return done;
    BDH_ASSIGN_OR_RETURN(const int64_t repaired, RepairKnown(mesh, known, model));
    done.set_repaired_chunks(done.repaired_chunks() + repaired);
    if (repaired == 0 || known.damage_size() == known.damaged_chunks()) return done;
  }
}

absl::StatusOr<v1::RepairResponse> RepairFromStore(const Mesh& mesh, const std::string& source) {
  v1::RepairRequest request;
  request.set_source(source);
  ProgressLine progress(stderr);
  return StoreClient(mesh).Follow(&AdminStub::Repair, request, [&](const v1::RepairResponse& now) {
    progress.Show(absl::StrFormat("%d of %d repaired", now.repaired_chunks(), now.damaged_chunks()));
  });
}

absl::StatusOr<int> RunRepair(const RepairFlags& flags) {
  if (flags.source.empty() == flags.folder.empty()) {
    return absl::InvalidArgumentError(
        "name a second store (HOST:PORT) or a directory (--from DIR), one of them");
  }
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  BDH_ASSIGN_OR_RETURN(const v1::RepairResponse done, flags.folder.empty()
                                                          ? RepairFromStore(mesh, flags.source)
                                                          : RepairFromFolder(mesh, flags.folder));
  if (flags.mesh.json) {
    PrintJson(ToJson(done));
  } else if (done.damaged_chunks() == 0) {
    std::cout << "Nothing is known to be damaged; bdhctl ckpt verify looks" << std::endl;
  } else {
    std::cout << absl::StrFormat("Repaired %d of %d damaged chunks\n", done.repaired_chunks(),
                                 done.damaged_chunks());
  }
  return done.repaired_chunks() == done.damaged_chunks() ? kExitOk : kExitFailed;
}

void DefineRepair(CLI::App& command, RepairFlags& flags) {
  command.add_option("source", flags.source, "Address of a second store, as ours reaches it")
      ->type_name("HOST:PORT");
  command
      .add_option("--from", flags.folder,
                  "Instead: a pretrained directory exported of a checkpoint that is damaged, on this machine")
      ->type_name("DIR");
  AddMeshFlags(command, flags.mesh);
  command.footer(
      "Replaces what is known to be damaged (ckpt verify) by the same bytes of another store, or of the "
      "tensor of\n"
      "the same name in a directory. Bytes that do not have the chunk's SHA-256 are not taken: weights "
      "exported in\n"
      "bf16 help nobody, and a directory knows nothing of an optimiser. Exit code 1: damage is left.\n\n"
      "Examples:\n"
      "  bdhctl ckpt repair archive:7031\n"
      "  bdhctl ckpt repair --from ./small");
}

}  // namespace

void AddRepairCommand(CLI::App& group, Invocation& invocation) {
  AddCommand<RepairFlags>(group, invocation, "repair", "Replace damage from a second store or a directory",
                          DefineRepair, RunRepair);
}

}  // namespace bdh::bdhctl
