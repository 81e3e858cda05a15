// From the wire's GenerateRequest to the engine's, with every field checked.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "bdh/engine/scheduler.h"
#include "bdh/v1/inference.pb.h"
#include "services/inference/loaded_model.h"

namespace bdh::inference {

// InvalidArgumentError begins with the field's name; OutOfRangeError: more tokens than the context holds. A
// seed that is not given is drawn at random; the one that is used stands in `sampling.seed`.
absl::StatusOr<engine::GenerationRequest> ToEngine(const v1::GenerateRequest& request,
                                                   const std::shared_ptr<const LoadedModel>& model);

v1::FinishReason ToProto(engine::FinishReason reason);

}  // namespace bdh::inference
