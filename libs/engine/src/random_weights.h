// Random weights under their names, for tests: to make a model of, or to be spoilt one at a time.
#pragma once

#include <map>
#include <random>
#include <string>
#include <vector>

#include "bdh/engine/bdh_model.h"

namespace bdh::engine {

inline const spec::ModelConfig kSmallConfig = {.n_layer = 2,
                                               .n_embd = 16,
                                               .n_head = 2,
                                               .mlp_internal_dim_multiplier = 4,
                                               .vocab_size = 24,
                                               .dropout = 0};

class Weights {
 public:
  explicit Weights(const spec::ModelConfig& config = kSmallConfig) {
    std::mt19937 generator(7);
    for (const auto& weight : spec::Weights(config)) {
      int64_t size = 1;
      for (const int64_t axis : weight.shape) size *= axis;
      auto& tensor = tensors_[weight.name];
      tensor.shape = weight.shape;
      for (int64_t i = 0; i < size; ++i) tensor.values.push_back(generator() / 4294967296.0f - 0.5f);
    }
  }
  std::vector<float>& values(const std::string& name) { return tensors_[name].values; }
  std::vector<int64_t>& shape(const std::string& name) { return tensors_[name].shape; }
  void Remove(const std::string& name) { tensors_.erase(name); }

  std::vector<NamedTensor> Named() const {
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors_) named.push_back({name, tensor.shape, tensor.values});
    return named;
  }
  absl::StatusOr<std::shared_ptr<const BdhModel>> Create() const {
    return BdhModel::Create(kSmallConfig, Named());
  }

 private:
  struct Tensor {
    std::vector<int64_t> shape;
    std::vector<float> values;
  };
  std::map<std::string, Tensor> tensors_;
};

}  // namespace bdh::engine
