#pragma once

#include "bdh/mesh/gate.h"
#include "bdh/store/snapshots.h"
#include "bdh/telemetry/metrics.h"
#include "bdh/v1/sessions.grpc.pb.h"

namespace bdh::checkpoint_store {

// Translates RPCs to store::SnapshotStore and back. Thread-safe.
class SnapshotService final : public v1::SnapshotService::Service {
 public:
  // All three outlive this object.
  SnapshotService(store::SnapshotStore& snapshots, const mesh::Gate& gate, telemetry::Metrics& metrics);

 private:
  using PutReader = grpc::ServerReader<v1::PutSnapshotRequest>;
  using GetWriter = grpc::ServerWriter<v1::SnapshotChunk>;

  grpc::Status OwnSession(grpc::ServerContext* context, const v1::OwnSessionRequest* request,
                          v1::OwnSessionResponse* response) override;
  grpc::Status PutSnapshot(grpc::ServerContext* context, PutReader* reader,
                           v1::PutSnapshotResponse* response) override;
  grpc::Status GetSnapshot(grpc::ServerContext* context, const v1::GetSnapshotRequest* request,
                           GetWriter* writer) override;
  grpc::Status ListSnapshots(grpc::ServerContext* context, const v1::ListSnapshotsRequest* request,
                             v1::ListSnapshotsResponse* response) override;
  grpc::Status DeleteSnapshot(grpc::ServerContext* context, const v1::DeleteSnapshotRequest* request,
                              v1::DeleteSnapshotResponse* response) override;

  absl::Status Put(const grpc::ServerContext& context, PutReader& reader, v1::PutSnapshotResponse& response);
  absl::StatusOr<v1::SessionSnapshot> Receive(PutReader& reader, v1::SessionSnapshot head,
                                              store::SnapshotUpload& upload);
  absl::Status Get(const v1::GetSnapshotRequest& request, GetWriter& writer);

  store::SnapshotStore& snapshots_;
  const mesh::Gate& gate_;
  prometheus::Counter& put_bytes_;
  prometheus::Counter& get_bytes_;
};

}  // namespace bdh::checkpoint_store
