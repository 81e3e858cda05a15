// The three services of what workers agree on. They translate RPCs to store::Coordination and back.
#pragma once

#include "bdh/mesh/gate.h"
#include "bdh/store/coordination.h"
#include "bdh/v1/coordination.grpc.pb.h"
#include "services/checkpoint_store/waits.h"

namespace bdh::checkpoint_store {

// Membership of groups. Thread-safe, as the two below.
class CoordinationService final : public v1::CoordinationService::Service {
 public:
  // All three outlive this object.
  CoordinationService(store::Coordination& all, Waits& waits, const mesh::Gate& gate)
      : all_(all), waits_(waits), gate_(gate) {}

 private:
  grpc::Status RegisterWorker(grpc::ServerContext* context, const v1::RegisterWorkerRequest* request,
                              v1::RegisterWorkerResponse* response) override;
  grpc::Status Heartbeat(grpc::ServerContext* context, const v1::HeartbeatRequest* request,
                         v1::HeartbeatResponse* response) override;
  grpc::Status AwaitGeneration(grpc::ServerContext* context, const v1::AwaitGenerationRequest* request,
                               v1::AwaitGenerationResponse* response) override;
  grpc::Status LeaveGroup(grpc::ServerContext* context, const v1::LeaveGroupRequest* request,
                          v1::LeaveGroupResponse* response) override;
  grpc::Status GetGroup(grpc::ServerContext* context, const v1::GetGroupRequest* request,
                        v1::GetGroupResponse* response) override;
  grpc::Status ListGroups(grpc::ServerContext* context, const v1::ListGroupsRequest* request,
                          v1::ListGroupsResponse* response) override;

  store::Coordination& all_;
  Waits& waits_;
  const mesh::Gate& gate_;
};

class KeyValueService final : public v1::KeyValueService::Service {
 public:
  // All three outlive this object.
  KeyValueService(store::Coordination& all, Waits& waits, const mesh::Gate& gate)
      : all_(all), waits_(waits), gate_(gate) {}

 private:
  grpc::Status SetValue(grpc::ServerContext* context, const v1::SetValueRequest* request,
                        v1::SetValueResponse* response) override;
  grpc::Status GetValue(grpc::ServerContext* context, const v1::GetValueRequest* request,
                        v1::GetValueResponse* response) override;
  grpc::Status WaitForKeys(grpc::ServerContext* context, const v1::WaitForKeysRequest* request,
                           v1::WaitForKeysResponse* response) override;
  grpc::Status AddToValue(grpc::ServerContext* context, const v1::AddToValueRequest* request,
                          v1::AddToValueResponse* response) override;
  grpc::Status CompareAndSetValue(grpc::ServerContext* context, const v1::CompareAndSetValueRequest* request,
                                  v1::CompareAndSetValueResponse* response) override;
  grpc::Status DeleteValue(grpc::ServerContext* context, const v1::DeleteValueRequest* request,
                           v1::DeleteValueResponse* response) override;
  grpc::Status CountKeys(grpc::ServerContext* context, const v1::CountKeysRequest* request,
                         v1::CountKeysResponse* response) override;
  grpc::Status DeleteNamespace(grpc::ServerContext* context, const v1::DeleteNamespaceRequest* request,
                               v1::DeleteNamespaceResponse* response) override;

  store::Coordination& all_;
  Waits& waits_;
  const mesh::Gate& gate_;
};

class RunRecordService final : public v1::RunRecordService::Service {
 public:
  // Both outlive this object.
  RunRecordService(store::Coordination& all, const mesh::Gate& gate) : all_(all), gate_(gate) {}

 private:
  grpc::Status PutRunRecord(grpc::ServerContext* context, const v1::PutRunRecordRequest* request,
                            v1::PutRunRecordResponse* response) override;
  grpc::Status GetRunRecord(grpc::ServerContext* context, const v1::GetRunRecordRequest* request,
                            v1::GetRunRecordResponse* response) override;
  grpc::Status ListRunRecords(grpc::ServerContext* context, const v1::ListRunRecordsRequest* request,
                              v1::ListRunRecordsResponse* response) override;
  grpc::Status DeleteRunRecord(grpc::ServerContext* context, const v1::DeleteRunRecordRequest* request,
                               v1::DeleteRunRecordResponse* response) override;

  store::Coordination& all_;
  const mesh::Gate& gate_;
};

// Of a message that has a fence. Also CheckpointAdminService has one.
template <class Request>
std::optional<store::Fence> FenceOf(const Request& request) {
  if (!request.has_fence()) return std::nullopt;
  return store::Fence{.group = request.fence().group(), .generation = request.fence().generation()};
}

}  // namespace bdh::checkpoint_store
