// BDH decoded exactly and recurrently: constant time and memory a token, without LibTorch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/engine/decode_model.h"
#include "bdh/spec/model_config.h"

namespace bdh::engine {

// A weight under the reference's name, row-major. Borrows.
struct NamedTensor {
  std::string_view name;
  std::vector<int64_t> shape;
  std::span<const float> values;
};

class BdhModel : public DecodeModel {
 public:
  // Needs every weight of spec::Weights(config), once, and takes attn.freqs [neurons per head] (or its
  // 1 x 1 x 1 x neurons form) if given; otherwise the frequencies are those of spec::RopeFrequencies. Copies
  // what it needs: WeightBytesFor(config), beside the tensors given.
  // InvalidArgumentError names what is wrong: a field of the config; a tensor that is missing, unknown, given
  // twice, of another shape, or holds a number that is not finite.
  static absl::StatusOr<std::shared_ptr<const BdhModel>> Create(const spec::ModelConfig& config,
                                                                std::span<const NamedTensor> tensors);

  // Memory of the weights and of one state, known before there is a model.
  static int64_t WeightBytesFor(const spec::ModelConfig& config);
  static int64_t StateBytesFor(const spec::ModelConfig& config);

  virtual const spec::ModelConfig& config() const = 0;
};

}  // namespace bdh::engine
