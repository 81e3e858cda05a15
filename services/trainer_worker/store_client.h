// Checkpoints in bdh-checkpoint-store, as a trainer uses it: calls are tried again while the store is away.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/mesh/peer.h"
#include "bdh/training/exchange.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"

namespace bdh::trainer_worker {

class StoreClient {
 public:
  struct Options {
    absl::Duration call_timeout = absl::Seconds(10);
    // How long the store may be away before a call fails.
    absl::Duration patience = absl::Minutes(2);
    // Requested: try no more.
    std::stop_token hurry = {};
    // Requested: end what is under way too.
    std::stop_token abandon = {};
  };

  // `store` outlives this object.
  StoreClient(const mesh::Peer& store, Options options);

  // Stores `checkpoint` with the bytes of `tensors`, which its header lists in this order.
  absl::Status Put(const v1::Checkpoint& checkpoint, std::span<const training::Tensor> tensors);

  // Fills `tensors` from a checkpoint and returns its header. DataLossError: bytes are missing.
  absl::StatusOr<v1::Checkpoint> Get(const std::string& reference,
                                     std::span<const training::MutableTensor> tensors);

  // The newest checkpoints of `run`, up to a thousand, the highest step first, without tensors.
  absl::StatusOr<std::vector<v1::Checkpoint>> ByStep(const std::string& run);
  // The first of them; none if there is none.
  absl::StatusOr<std::optional<v1::Checkpoint>> Newest(const std::string& run);

  // Without tensors' sizes mattering: what `reference` points to, or none.
  absl::StatusOr<std::optional<v1::Checkpoint>> Describe(const std::string& reference);

  absl::Status SetTag(const std::string& tag, const std::string& reference);

 private:
  // Calls `attempt` until it succeeds, fails for good, or patience is over.
  absl::Status Retry(std::string_view doing, const std::function<absl::Status()>& attempt);
  absl::Status PutOnce(const v1::Checkpoint& checkpoint, std::span<const training::Tensor> tensors);
  absl::StatusOr<v1::Checkpoint> GetOnce(const std::string& reference,
                                         std::span<const training::MutableTensor> tensors);

  const mesh::Peer& store_;
  const Options options_;
  const std::unique_ptr<v1::CheckpointStoreService::Stub> stub_;
};

}  // namespace bdh::trainer_worker
