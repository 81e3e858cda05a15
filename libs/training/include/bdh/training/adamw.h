// AdamW as LibTorch's, in one pass over the memory instead of ten. No torch here: spans of floats.
#pragma once

#include <cstdint>
#include <span>

namespace bdh::training {

// What one step does to every number; made once a step.
struct AdamWStep {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.1;
  int64_t step = 1;           // Counted from 1.
  double gradient_scale = 1;  // Below 1 when gradients are clipped.
};

// Updates `weights` and both moments from `gradient`; all of one size.
void ApplyAdamW(const AdamWStep& step, std::span<float> weights, std::span<const float> gradient,
                std::span<float> exp_avg, std::span<float> exp_avg_sq);

// Sum of squares, in double.
double SumOfSquares(std::span<const float> values);

}  // namespace bdh::training
