// Models out of files of this machine: what `bdhctl model export` writes, and what LoadPretrained takes
// besides.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "bdh/engine/bdh_model.h"
#include "bdh/engine/memory_budget.h"
#include "bdh/v1/checkpoint_store.pb.h"
#include "services/inference/loaded_model.h"

namespace bdh::inference {

// Whether a reference is a path and not a checkpoint or a tag, none of which begins so.
inline bool IsPath(const std::string& reference) {
  return reference.starts_with('/');
}

// Builds the model from `path` with `options` within `memory`, reading one tensor after the other;
// `cancelled` is asked in between. `header` gets name and model as a checkpoint of it would have them.
// NotFoundError: nothing is there. InvalidArgumentError, DataLossError: not a model, or damaged; the message
// names the tensor.
absl::StatusOr<std::shared_ptr<LoadedModel>> LoadFiles(const std::string& path, engine::MemoryBudget& memory,
                                                       const engine::BdhOptions& options,
                                                       const std::function<bool()>& cancelled,
                                                       v1::Checkpoint& header);

}  // namespace bdh::inference
