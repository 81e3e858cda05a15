// Compiled with OpenMP and -O3, see CMakeLists.txt; without OpenMP it is the same on one thread.
#include "bdh/training/adamw.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace bdh::training {
namespace {

// Fixed, so that sums have one order whatever the number of threads.
constexpr int64_t kBlock = 1 << 14;

int64_t BlockCount(size_t size) {
  return (static_cast<int64_t>(size) + kBlock - 1) / kBlock;
}

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

void ApplyBlock(const Factors& f, int64_t count, float* __restrict weights, const float* __restrict gradient,
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
  const int64_t size = static_cast<int64_t>(weights.size());
  const int64_t blocks = BlockCount(weights.size());
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = block * kBlock;
    ApplyBlock(factors, std::min(kBlock, size - begin), weights.data() + begin, gradient.data() + begin,
               exp_avg.data() + begin, exp_avg_sq.data() + begin);
  }
}

double SumOfSquares(std::span<const float> values) {
  const int64_t size = static_cast<int64_t>(values.size());
  const int64_t blocks = BlockCount(values.size());
  std::vector<double> sums(static_cast<size_t>(blocks));
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = block * kBlock, end = std::min(size, begin + kBlock);
    // Four chains instead of one: the additions need not wait for each other.
    double chains[4] = {};
    int64_t i = begin;
    for (; i + 4 <= end; i += 4) {
      for (int64_t lane = 0; lane < 4; ++lane) {
        const double value = values[static_cast<size_t>(i + lane)];
        chains[lane] += value * value;
      }
    }
    for (; i < end; ++i) {
      const double value = values[static_cast<size_t>(i)];
      chains[0] += value * value;
    }
    sums[static_cast<size_t>(block)] = (chains[0] + chains[1]) + (chains[2] + chains[3]);
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace bdh::training
