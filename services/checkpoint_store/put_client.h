// How a client that has a checkpoint's bytes puts it without sending what the store holds already: it hashes
// them, asks which chunks are missing, sends those, and commits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/sha256.h"
#include "bdh/mesh/peer.h"
#include "bdh/v1/checkpoint_admin.grpc.pb.h"

namespace bdh::checkpoint_store {

// One checkpoint. One thread at a time. What was sent of a put that broke off stays in the store for an hour,
// so the same put again goes on where it was.
class PutClient {
 public:
  // `store` outlives this object. `header` describes the checkpoint; with the digests of its chunks it must
  // fit into one message (of 8 MiB: some 200,000 chunks).
  PutClient(const mesh::Peer& store, v1::Checkpoint header);
  ~PutClient();
  PutClient(const PutClient&) = delete;
  PutClient& operator=(const PutClient&) = delete;

  // All bytes of the next tensor of the header. A few MiB of them and one tensor are kept. After an error the
  // put can only be given up.
  absl::Status Add(std::string bytes);

  struct Result {
    v1::Checkpoint checkpoint;
    int64_t stored_bytes = 0;  // New to the store,
    int64_t sent_bytes = 0;    // and what had to be sent for that.
  };
  // After the last tensor. Errors are those of CheckpointAdminService.CommitUpload.
  absl::StatusOr<Result> Commit();

 private:
  class Stream;

  absl::Status Begin();
  absl::Status Negotiate();
  absl::Status SendMissing(std::span<const std::string_view> chunks, std::span<const Sha256Digest> digests);

  const mesh::Peer& store_;
  const std::unique_ptr<v1::CheckpointAdminService::Stub> admin_;
  v1::CommitUploadRequest commit_;
  size_t chunk_bytes_ = 0;            // 0: not begun.
  std::vector<std::string> waiting_;  // Tensors not negotiated yet.
  size_t waiting_bytes_ = 0;
  std::unique_ptr<Stream> stream_;  // Opened when something is missing.
  absl::flat_hash_set<Sha256Digest> sent_;
  int64_t sent_bytes_ = 0;
};

}  // namespace bdh::checkpoint_store
