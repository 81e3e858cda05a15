// Between checkpoints as the mesh speaks of them and models as files hold them.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "bdh/pretrained/pretrained.h"
#include "bdh/v1/checkpoint_store.pb.h"

namespace bdh::bdhctl {

// What a checkpoint says of its model. InvalidArgumentError: it does not say, or no model is like that.
absl::StatusOr<pretrained::Description> Describe(const v1::Checkpoint& checkpoint);

// A checkpoint of `model` without its name: all weights in F32, and what is known of their training.
v1::Checkpoint ToCheckpoint(const pretrained::PretrainedModel& model);

// The bytes of the tensor of that index there.
absl::StatusOr<std::string> TensorBytes(const pretrained::PretrainedModel& model, int index);

}  // namespace bdh::bdhctl
