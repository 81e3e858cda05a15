// From logits to the next token.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::engine {

struct SamplingParams {
  double temperature = 1;  // 0 to 2; 0 is greedy.
  int32_t top_k = 0;       // Only the k likeliest tokens; 0: all.
  double top_p = 1;        // 0 to 1: the smallest set of likeliest tokens whose probabilities reach p.
  uint64_t seed = 0;
};

// InvalidArgumentError begins with the field's name: "temperature is 3; want 0 to 2".
absl::Status Validate(const SamplingParams& params);

// Draw number i depends on (params, i, logits) alone. Equal logits: the smaller token goes first, always.
class Sampler {
 public:
  // `params` have passed Validate.
  explicit Sampler(const SamplingParams& params) : params_(params) {}

  // The next token. InternalError: a logit is not a finite number.
  absl::StatusOr<int32_t> Next(std::span<const float> logits);

  // Draws made so far.
  uint64_t draws() const { return draws_; }

 private:
  void Rank(std::span<const float> logits);

  const SamplingParams params_;
  uint64_t draws_ = 0;
  std::vector<std::pair<float, int32_t>> ranked_;  // Kept between draws to allocate once.
  std::vector<double> weights_;
};

}  // namespace bdh::engine
