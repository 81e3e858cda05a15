// A model's shape as messages hold it and as libraries take it.
#pragma once

#include "bdh/spec/model_config.h"
#include "bdh/v1/config.pb.h"

namespace bdh::config {

v1::ModelConfig ToProto(const spec::ModelConfig& config);

// Fields that are not set become 0, which spec::Validate refuses by name.
spec::ModelConfig ToSpec(const v1::ModelConfig& model);

}  // namespace bdh::config
