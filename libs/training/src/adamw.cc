// Compiled with -O3 for its vectoriser, see CMakeLists.txt.
#include "bdh/training/adamw.h"

#include <cmath>

namespace bdh::training {
namespace {

// The factors of one step as LibTorch computes them: in double, rounded once.
struct Factors {
  float keep, beta1, one_minus_beta1, beta2, one_minus_beta2, root_correction2, eps, step_size, scale;
};

Factors MakeFactors(const AdamWStep& step) {
  const double power = static_cast<double>(step.step);
  const double correction1 = 1 - std::pow(step.beta1, power);
  const double correction2 = 1 - std::pow(step.beta2, power);
  return {.keep = static_cast<float>(1 - step.learning_rate * step.weight_decay),
          .beta1 = static_cast<float>(step.beta1),
          .one_minus_beta1 = static_cast<float>(1 - step.beta1),
          .beta2 = static_cast<float>(step.beta2),
          .one_minus_beta2 = static_cast<float>(1 - step.beta2),
          .root_correction2 = static_cast<float>(std::sqrt(correction2)),
          .eps = static_cast<float>(step.eps),
          .step_size = static_cast<float>(step.learning_rate / correction1),
          .scale = static_cast<float>(step.gradient_scale)};
}

void ApplyToAll(const Factors& f, int64_t count, float* __restrict weights, const float* __restrict gradient,
                float* __restrict exp_avg, float* __restrict exp_avg_sq) {
  for (int64_t i = 0; i < count; ++i) {
    const float g = gradient[i] * f.scale;
    const float m = exp_avg[i] * f.beta1 + g * f.one_minus_beta1;
    const float v = exp_avg_sq[i] * f.beta2 + f.one_minus_beta2 * g * g;
    const float denominator = std::sqrt(v) / f.root_correction2 + f.eps;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    weights[i] = weights[i] * f.keep - f.step_size * m / denominator;
  }
}

}  // namespace

void ApplyAdamW(const AdamWStep& step, std::span<float> weights, std::span<const float> gradient,
                std::span<float> exp_avg, std::span<float> exp_avg_sq) {
  const Factors factors = MakeFactors(step);
  ApplyToAll(factors, static_cast<int64_t>(weights.size()), weights.data(), gradient.data(), exp_avg.data(),
             exp_avg_sq.data());
}

double SumOfSquares(std::span<const float> values) {
  // Many chains instead of one: the additions need not wait for each other, and the vectoriser may take them.
  constexpr size_t kChains = 8;
  double chains[kChains] = {};
  size_t i = 0;
  for (; i + kChains <= values.size(); i += kChains) {
    for (size_t lane = 0; lane < kChains; ++lane) {
      const double value = values[i + lane];
      chains[lane] += value * value;
    }
  }
  for (; i < values.size(); ++i) chains[0] += static_cast<double>(values[i]) * values[i];
  double total = 0;
  for (const double chain : chains) total += chain;
  return total;
}

}  // namespace bdh::training
