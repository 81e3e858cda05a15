// Models out of bdh-checkpoint-store, or out of files of this machine.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "bdh/engine/memory_budget.h"
#include "bdh/mesh/peer.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "services/inference/loaded_model.h"

namespace bdh::inference {

// Thread-safe.
class ModelLoader {
 public:
  // Both outlive this object. Models are made with `options`.
  ModelLoader(const mesh::Peer& store, engine::MemoryBudget& memory, int max_context_tokens,
              const engine::BdhOptions& options);

  // Streams the checkpoint's weights, or reads the files where `reference` is a path, and builds the model
  // beside whatever serves now. `stop` ends that at
  // once; `cancelled` is asked several times a second, by another thread. Nothing is allocated for a
  // checkpoint whose header does not describe a model that fits. Errors: as LoadModel of inference.proto
  // lists them, and CancelledError.
  absl::StatusOr<std::shared_ptr<LoadedModel>> Load(const std::string& id, const std::string& reference,
                                                    const std::stop_token& stop,
                                                    const std::function<bool()>& cancelled) const;

 private:
  absl::StatusOr<std::shared_ptr<LoadedModel>> Fetch(const std::string& reference,
                                                     const std::stop_token& stop,
                                                     const std::function<bool()>& cancelled,
                                                     v1::Checkpoint& header) const;

  const mesh::Peer& store_;
  engine::MemoryBudget& memory_;
  const int max_context_tokens_;
  const engine::BdhOptions options_;
  const std::unique_ptr<v1::CheckpointStoreService::Stub> stub_;
};

}  // namespace bdh::inference
