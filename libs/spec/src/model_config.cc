#include "bdh/spec/model_config.h"

#include <cmath>
#include <numbers>
#include <string_view>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"

namespace bdh::spec {
namespace {

// Far above any model that fits a machine, and low enough that no product of two below overflows int64.
constexpr int kMaxLayers = 4096;
constexpr int kMaxEmbedding = 1 << 20;
constexpr int kMaxHeads = 4096;
constexpr int kMaxMultiplier = 1 << 20;
constexpr int kMaxVocabulary = 1 << 24;
constexpr int64_t kMaxParameters = int64_t{1} << 40;

constexpr double kRopeTheta = 65536.0;

absl::Status CheckRange(std::string_view field, int value, int min, int max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s is %d; want %d to %d", field, value, min, max));
}

// A head is a whole number of neurons, and an even one: RoPE turns them in pairs.
absl::Status CheckHeads(const ModelConfig& config) {
  const int64_t neurons = int64_t{config.n_embd} * config.mlp_internal_dim_multiplier;
  if (neurons % (2 * int64_t{config.n_head}) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("n_head is %d, but n_embd x mlp_internal_dim_multiplier = %d x %d = %d neurons do not "
                      "split into %d heads of "
                      "an even number of neurons each (RoPE turns neurons in pairs); want a product "
                      "divisible by 2 x n_head = %d",
                      config.n_head, config.n_embd, config.mlp_internal_dim_multiplier, neurons,
                      config.n_head, 2 * int64_t{config.n_head}));
}

absl::Status CheckSize(const ModelConfig& config) {
  if (config.neurons() <= kMaxParameters / (4 * int64_t{config.n_embd})) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "n_embd is %d and mlp_internal_dim_multiplier %d, which makes %d neurons of 3 x n_embd weights each; "
      "want a model below %d weights",
      config.n_embd, config.mlp_internal_dim_multiplier, config.neurons(), kMaxParameters));
}

}  // namespace

absl::Status Validate(const ModelConfig& config) {
  BDH_RETURN_IF_ERROR(CheckRange("n_layer", config.n_layer, 1, kMaxLayers));
  // The norm of a single number is 0 whatever the number is.
  BDH_RETURN_IF_ERROR(CheckRange("n_embd", config.n_embd, 2, kMaxEmbedding));
  BDH_RETURN_IF_ERROR(CheckRange("n_head", config.n_head, 1, kMaxHeads));
  BDH_RETURN_IF_ERROR(
      CheckRange("mlp_internal_dim_multiplier", config.mlp_internal_dim_multiplier, 1, kMaxMultiplier));
  BDH_RETURN_IF_ERROR(CheckRange("vocab_size", config.vocab_size, 2, kMaxVocabulary));
  if (!(config.dropout >= 0 && config.dropout < 1)) {  // Written so that NaN fails.
    return absl::InvalidArgumentError(
        absl::StrFormat("dropout is %g; want at least 0 and below 1", config.dropout));
  }
  BDH_RETURN_IF_ERROR(CheckHeads(config));
  return CheckSize(config);
}

std::vector<WeightSpec> Weights(const ModelConfig& config) {
  const int64_t heads = config.n_head, width = config.n_embd, vocabulary = config.vocab_size;
  const int64_t per_head = config.neurons_per_head();
  return {{"embed.weight", {vocabulary, width}},
          {"encoder", {heads, width, per_head}},
          {"encoder_v", {heads, width, per_head}},
          {"decoder", {heads * per_head, width}},
          {"lm_head", {width, vocabulary}}};
}

int64_t ParameterCount(const ModelConfig& config) {
  int64_t total = 0;
  for (const WeightSpec& weight : Weights(config)) {
    int64_t count = 1;
    for (int64_t size : weight.shape) count *= size;
    total += count;
  }
  return total;
}

std::vector<float> RopeFrequencies(int64_t neurons_per_head) {
  // 1 / theta^(2 floor(j/2) / N) / 2pi with a rounding to float32 after every operation, as the reference's
  // float32 tensors do. The power itself is taken in double, so that it is the float nearest to the true one
  // on every machine.
  std::vector<float> frequencies(neurons_per_head);
  for (int64_t j = 0; j < neurons_per_head; ++j) {
    const float exponent = static_cast<float>(j / 2 * 2) / static_cast<float>(neurons_per_head);
    const float power = static_cast<float>(std::pow(kRopeTheta, static_cast<double>(exponent)));
    frequencies[j] = 1.0f / power / static_cast<float>(2 * std::numbers::pi);
  }
  return frequencies;
}

}  // namespace bdh::spec
