#pragma once

#include "bdh/mesh/credentials.h"
#include "bdh/mesh/gate.h"
#include "bdh/store/coordination.h"
#include "bdh/store/store.h"
#include "bdh/v1/checkpoint_admin.grpc.pb.h"

namespace bdh::checkpoint_store {

// Translates RPCs to libs/store and back: uploads that resume, care for what is kept, operations on models.
// Thread-safe.
class AdminService final : public v1::CheckpointAdminService::Service {
 public:
  struct Parts {
    store::Store& store;
    store::Coordination& coordination;  // For fences, and as part of a backup.
    const mesh::Gate& gate;
    mesh::Credentials credentials;  // What other stores are shown.
  };
  // What is in `parts` outlives this object.
  explicit AdminService(Parts parts) : parts_(std::move(parts)), store_(parts_.store), gate_(parts_.gate) {}

 private:
  template <class Response>
  using Writer = grpc::ServerWriter<Response>;
  using Context = grpc::ServerContext;

  grpc::Status FindMissingChunks(Context* context, const v1::FindMissingChunksRequest* request,
                                 v1::FindMissingChunksResponse* response) override;
  grpc::Status PutChunks(Context* context, grpc::ServerReader<v1::PutChunksRequest>* reader,
                         v1::PutChunksResponse* response) override;
  grpc::Status CommitUpload(Context* context, const v1::CommitUploadRequest* request,
                            v1::CommitUploadResponse* response) override;
  grpc::Status Verify(Context* context, const v1::VerifyRequest* request,
                      Writer<v1::VerifyResponse>* writer) override;
  grpc::Status Repair(Context* context, const v1::RepairRequest* request,
                      Writer<v1::RepairResponse>* writer) override;
  grpc::Status ListTagHistory(Context* context, const v1::ListTagHistoryRequest* request,
                              v1::ListTagHistoryResponse* response) override;
  grpc::Status Annotate(Context* context, const v1::AnnotateRequest* request,
                        v1::AnnotateResponse* response) override;
  grpc::Status SearchCheckpoints(Context* context, const v1::SearchCheckpointsRequest* request,
                                 v1::SearchCheckpointsResponse* response) override;
  grpc::Status PinCheckpoint(Context* context, const v1::PinCheckpointRequest* request,
                             v1::PinCheckpointResponse* response) override;
  grpc::Status UnpinCheckpoint(Context* context, const v1::UnpinCheckpointRequest* request,
                               v1::UnpinCheckpointResponse* response) override;
  grpc::Status SetRetention(Context* context, const v1::SetRetentionRequest* request,
                            v1::SetRetentionResponse* response) override;
  grpc::Status GetRetention(Context* context, const v1::GetRetentionRequest* request,
                            v1::GetRetentionResponse* response) override;
  grpc::Status ApplyRetention(Context* context, const v1::ApplyRetentionRequest* request,
                              v1::ApplyRetentionResponse* response) override;
  grpc::Status CollectGarbage(Context* context, const v1::CollectGarbageRequest* request,
                              Writer<v1::CollectGarbageResponse>* writer) override;
  grpc::Status AverageCheckpoints(Context* context, const v1::AverageCheckpointsRequest* request,
                                  Writer<v1::AverageCheckpointsResponse>* writer) override;
  grpc::Status DiffCheckpoints(Context* context, const v1::DiffCheckpointsRequest* request,
                               v1::DiffCheckpointsResponse* response) override;
  grpc::Status PushCheckpoints(Context* context, const v1::PushCheckpointsRequest* request,
                               Writer<v1::PushCheckpointsResponse>* writer) override;
  grpc::Status BackUp(Context* context, const v1::BackUpRequest* request,
                      Writer<v1::BackUpResponse>* writer) override;
  grpc::Status GetUsage(Context* context, const v1::GetUsageRequest* request,
                        v1::GetUsageResponse* response) override;

  absl::Status TellDamage(const std::string& reference, Writer<v1::VerifyResponse>& writer);
  absl::Status ReceiveChunks(grpc::ServerReader<v1::PutChunksRequest>& reader,
                             v1::PutChunksResponse& response);
  absl::Status BackUpInto(const std::string& folder, Writer<v1::BackUpResponse>& writer);

  const Parts parts_;
  store::Store& store_;
  const mesh::Gate& gate_;
};

}  // namespace bdh::checkpoint_store
