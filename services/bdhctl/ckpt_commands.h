// What the files of `bdhctl ckpt` share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/v1/checkpoint_admin.grpc.pb.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/model_commands.h"

namespace bdh::bdhctl {

using AdminStub = v1::CheckpointAdminService::Stub;
using CheckpointStub = v1::CheckpointStoreService::Stub;

// The store of a mesh, or one elsewhere.
class StoreClient {
 public:
  explicit StoreClient(const Mesh& mesh) : StoreClient(mesh.Store(), mesh.call_timeout()) {}
  StoreClient(mesh::Peer peer, absl::Duration timeout);

  template <class Request, class Response>
  absl::StatusOr<Response> Call(grpc::Status (AdminStub::*method)(grpc::ClientContext*, const Request&,
                                                                  Response*),
                                const Request& request) const {
    return peer_.Call(*admin_, method, request, timeout_);
  }
  template <class Request, class Response>
  absl::StatusOr<Response> Call(grpc::Status (CheckpointStub::*method)(grpc::ClientContext*, const Request&,
                                                                       Response*),
                                const Request& request) const {
    return peer_.Call(*checkpoints_, method, request, timeout_);
  }

  // A call that reports how far it is: `each` sees every answer, the last one comes back.
  template <class Request, class Response, class Each>
  absl::StatusOr<Response> Follow(std::unique_ptr<grpc::ClientReader<Response>> (AdminStub::*method)(
                                      grpc::ClientContext*, const Request&),
                                  const Request& request, const Each& each) const {
    const auto context = peer_.NewContext(kWork);
    const auto reader = ((*admin_).*method)(context.get(), request);
    Response response, last;
    while (reader->Read(&response)) {
      each(response);
      last.Swap(&response);
    }
    const absl::Status status = peer_.Outcome(reader->Finish());
    if (!status.ok()) return status;
    return last;
  }

 private:
  // Of work that reads or moves everything there is.
  static constexpr absl::Duration kWork = absl::Hours(24);

  const mesh::Peer peer_;
  const absl::Duration timeout_;
  const std::unique_ptr<AdminStub> admin_;
  const std::unique_ptr<CheckpointStub> checkpoints_;
};

absl::StatusOr<std::vector<v1::Checkpoint>> ListAllCheckpoints(const StoreClient& store,
                                                               const std::string& run);

// "2026-11-21 15:04:05", here.
std::string When(const google::protobuf::Timestamp& time);

// "[####----]  50%  1.0 GiB of 2.0 GiB"
std::string BytesOf(int64_t done, int64_t total);

// One function a file.
void AddCareCommands(CLI::App& group, Invocation& invocation);  // verify, gc, retention, df, rm.
void AddRepairCommand(CLI::App& group, Invocation& invocation);
void AddModelOpCommands(CLI::App& group, Invocation& invocation);  // average, diff.
void AddCopyCommands(CLI::App& group, Invocation& invocation);     // push, pull, backup, restore.

}  // namespace bdh::bdhctl
