// Another checkpoint store over the mesh: what a push goes to and a repair comes from.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "bdh/mesh/peer.h"
#include "bdh/store/model_ops.h"
#include "bdh/v1/checkpoint_admin.grpc.pb.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"

namespace bdh::checkpoint_store {

// One thread at a time. Calls end when `is_cancelled` says so.
class RemoteStore : public store::CopyTarget, public store::RepairSource {
 public:
  RemoteStore(const std::string& address, const mesh::Credentials& credentials,
              std::function<bool()> is_cancelled);

  absl::StatusOr<Missing> FindMissing(const std::string& upload,
                                      const std::vector<std::string>& digests) override;
  absl::Status PutChunks(const std::string& upload, const NextChunk& next) override;
  absl::Status Commit(const std::string& upload, const store::Checkpoint& checkpoint,
                      const std::vector<store::TensorDigests>& chunks) override;
  absl::Status ReadTensor(const std::string& checkpoint, const std::string& tensor,
                          const Take& take) override;

 private:
  absl::StatusOr<bool> Fill(v1::PutChunksRequest& request, const NextChunk& next) const;

  const mesh::Peer peer_;
  const std::function<bool()> is_cancelled_;
  const std::unique_ptr<v1::CheckpointAdminService::Stub> admin_;
  const std::unique_ptr<v1::CheckpointStoreService::Stub> store_;
};

}  // namespace bdh::checkpoint_store
