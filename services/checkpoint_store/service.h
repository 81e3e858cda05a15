#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "bdh/mesh/gate.h"
#include "bdh/store/coordination.h"
#include "bdh/store/store.h"
#include "bdh/telemetry/metrics.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"

namespace bdh::checkpoint_store {

// Translates RPCs to libs/store and back. Thread-safe.
class CheckpointStore final : public v1::CheckpointStoreService::Service {
 public:
  // All of them outlive this object.
  CheckpointStore(store::Store& store, store::Coordination& coordination, const mesh::Gate& gate,
                  telemetry::Metrics& metrics);

  // "12 checkpoints, 34.1 MiB".
  std::string KeyFigure() const;

 private:
  using PutReader = grpc::ServerReader<v1::PutCheckpointRequest>;
  using GetWriter = grpc::ServerWriter<v1::GetCheckpointResponse>;

  grpc::Status PutCheckpoint(grpc::ServerContext* context, PutReader* reader,
                             v1::PutCheckpointResponse* response) override;
  grpc::Status GetCheckpoint(grpc::ServerContext* context, const v1::GetCheckpointRequest* request,
                             GetWriter* writer) override;
  grpc::Status DescribeCheckpoint(grpc::ServerContext* context, const v1::DescribeCheckpointRequest* request,
                                  v1::DescribeCheckpointResponse* response) override;
  grpc::Status ListCheckpoints(grpc::ServerContext* context, const v1::ListCheckpointsRequest* request,
                               v1::ListCheckpointsResponse* response) override;
  grpc::Status DeleteCheckpoint(grpc::ServerContext* context, const v1::DeleteCheckpointRequest* request,
                                v1::DeleteCheckpointResponse* response) override;
  grpc::Status SetTag(grpc::ServerContext* context, const v1::SetTagRequest* request,
                      v1::SetTagResponse* response) override;
  grpc::Status DeleteTag(grpc::ServerContext* context, const v1::DeleteTagRequest* request,
                         v1::DeleteTagResponse* response) override;
  grpc::Status ListTags(grpc::ServerContext* context, const v1::ListTagsRequest* request,
                        v1::ListTagsResponse* response) override;

  absl::Status Put(const grpc::ServerContext& context, PutReader& reader,
                   v1::PutCheckpointResponse& response);
  absl::Status Receive(PutReader& reader, store::Upload& upload);
  absl::StatusOr<store::Upload::Result> Commit(store::Upload& upload,
                                               const std::optional<store::Fence>& fence);
  absl::Status Get(const v1::GetCheckpointRequest& request, GetWriter& writer);
  absl::Status List(const v1::ListCheckpointsRequest& request, v1::ListCheckpointsResponse& response);
  void UpdateGauges();

  store::Store& store_;
  store::Coordination& coordination_;
  const mesh::Gate& gate_;
  prometheus::Counter& put_bytes_;
  prometheus::Counter& get_bytes_;
  prometheus::Counter& new_bytes_;
  prometheus::Gauge& checkpoints_;
  prometheus::Gauge& stored_bytes_;
  prometheus::Histogram& commit_seconds_;
};

}  // namespace bdh::checkpoint_store
