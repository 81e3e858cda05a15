// What a model takes to serve, in float32.
#pragma once

#include <cstdint>

#include "bdh/spec/model_config.h"

namespace bdh::spec {

inline int64_t WeightBytes(const ModelConfig& config) {
  return ParameterCount(config) * static_cast<int64_t>(sizeof(float));
}

// What a decoder keeps of a long text: for each layer neurons x n_embd numbers, whatever the length.
inline int64_t StateBytes(const ModelConfig& config) {
  return int64_t{config.n_layer} * config.neurons() * config.n_embd * static_cast<int64_t>(sizeof(float));
}

}  // namespace bdh::spec
