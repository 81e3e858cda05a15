// What a BDH model is, without torch: the one description that training and decoding share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace bdh::spec {

struct ModelConfig {
  int n_layer = 6;
  int n_embd = 256;
  int n_head = 4;
  int mlp_internal_dim_multiplier = 128;
  int vocab_size = 256;
  double dropout = 0.1;

  // Neurons of one head, and of all heads.
  int64_t neurons_per_head() const { return int64_t{mlp_internal_dim_multiplier} * n_embd / n_head; }
  int64_t neurons() const { return neurons_per_head() * n_head; }

  bool operator==(const ModelConfig&) const = default;
};

// InvalidArgumentError says which field is wrong and what it must satisfy, for every config a user can write.
absl::Status Validate(const ModelConfig& config);

// A weight of the reference: its name and its shape, in the order of the reference's state dict
// (embed.weight, encoder, encoder_v, decoder, lm_head). The frequency buffer attn.freqs is not among them.
struct WeightSpec {
  std::string name;
  std::vector<int64_t> shape;
};
std::vector<WeightSpec> Weights(const ModelConfig& config);
int64_t ParameterCount(const ModelConfig& config);

// attn.freqs of the reference: the frequency of each neuron of a head, in turns a token, float32.
// Store it with a model whose width was changed; it depends on the width it was made for.
std::vector<float> RopeFrequencies(int64_t neurons_per_head);

// Tensor name of attn.freqs in a checkpoint.
inline constexpr char kFrequenciesName[] = "attn.freqs";

}  // namespace bdh::spec
