// The weights of a BDH model, checked and laid out for the kernels.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/engine/bdh_model.h"
#include "buffer.h"
#include "geometry.h"

namespace bdh::engine {

using Tensors = std::map<std::string_view, const NamedTensor*>;

// By name. InvalidArgumentError as BdhModel::Create says.
absl::StatusOr<Tensors> CheckTensors(const spec::ModelConfig& config, std::span<const NamedTensor> given);

class BdhWeights {
 public:
  // ResourceExhaustedError: no memory.
  static absl::StatusOr<BdhWeights> Pack(const Geometry& geometry, const Tensors& tensors,
                                         kernels::DType dtype, const kernels::Kernels& kernels);
  static int64_t Bytes(const Geometry& geometry, kernels::DType dtype);

  // Normed already, padded.
  const float* embedding(int64_t token) const { return embedding_ + token * width_; }
  // Frequencies of pairs of a head, padded.
  const float* frequencies() const { return frequencies_; }
  // Of each segment: n_embd inputs to its neurons; one row a neuron; one row a neuron.
  const kernels::WeightMatrix& encoder(int64_t segment) const { return encoder_[segment]; }
  const kernels::WeightMatrix& gate(int64_t segment) const { return gate_[segment]; }
  const kernels::WeightMatrix& decoder(int64_t segment) const { return decoder_[segment]; }
  const kernels::WeightMatrix& lm_head() const { return lm_head_; }
  // What the first layer's neurons make of a token does not depend on the tokens before it: with a small
  // vocabulary it is computed once.
  bool knows_first_layer() const { return !first_layer_.empty(); }
  kernels::PackedNeurons first_layer(int64_t token, int64_t segment) const {
    return first_layer_[token * static_cast<int64_t>(encoder_.size()) + segment];
  }
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  void KeepFirstLayer(const Geometry& geometry, const kernels::Kernels& kernels);

  Buffer memory_, first_memory_;
  int64_t width_ = 0;
  const float* embedding_ = nullptr;
  const float* frequencies_ = nullptr;
  std::vector<kernels::WeightMatrix> encoder_, gate_, decoder_;
  kernels::WeightMatrix lm_head_;
  std::vector<kernels::PackedNeurons> first_layer_;  // Of each token its segments.
  std::string fingerprint_;
};

}  // namespace bdh::engine
