// AdamW against numbers worked out by hand, and the properties that a resumed or threaded run leans on.
// trainer_test compares it with LibTorch's own.

#include "bdh/training/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace bdh::training {
namespace {

struct State {
  std::vector<float> weights, gradient, exp_avg, exp_avg_sq;
  explicit State(size_t size) : weights(size), gradient(size), exp_avg(size), exp_avg_sq(size) {
    for (size_t i = 0; i < size; ++i) {
      weights[i] = std::sin(static_cast<float>(i));
      gradient[i] = std::cos(static_cast<float>(3 * i));
    }
  }
  void Apply(const AdamWStep& step) { ApplyAdamW(step, weights, gradient, exp_avg, exp_avg_sq); }
};

TEST(AdamW, TheFirstStepMovesByTheRateAgainstTheSign) {
  State state(1);
  state.weights = {2.0f};
  state.gradient = {0.5f};
  state.Apply({.learning_rate = 0.1, .weight_decay = 0.5});
  // 2 * (1 - 0.1 * 0.5) - 0.1 * sign: the moments' corrections cancel in the first step.
  EXPECT_NEAR(state.weights[0], 1.8f, 1e-6);
  EXPECT_NEAR(state.exp_avg[0], 0.05f, 1e-8);
  EXPECT_NEAR(state.exp_avg_sq[0], 0.00025f, 1e-9);
}

TEST(AdamW, TheSecondStepByHand) {
  State state(1);
  state.weights = {1.0f};
  state.gradient = {1.0f};
  const AdamWStep first{.learning_rate = 0.1, .beta1 = 0.5, .beta2 = 0.75, .eps = 0, .weight_decay = 0};
  state.Apply(first);
  state.gradient = {-2.0f};
  AdamWStep second = first;
  second.step = 2;
  state.Apply(second);
  // m = 0.5 * 0.5 - 0.5 * 2 = -0.75, corrected by 1 - 0.25: -1. v = 0.75 * 0.25 + 0.25 * 4 = 1.1875,
  // corrected by 1 - 0.5625: 2.7143. w = 0.9 + 0.1 / sqrt(2.7143).
  EXPECT_NEAR(state.weights[0], 0.9 + 0.1 / std::sqrt(1.1875 / 0.4375), 1e-6);
}

TEST(AdamW, ClippingIsAScaledGradient) {
  State scaled(1000), plain(1000);
  for (float& value : plain.gradient) value *= 0.25f;
  scaled.Apply({.gradient_scale = 0.25});
  plain.Apply({});
  EXPECT_EQ(scaled.weights, plain.weights);
}

TEST(AdamW, WithoutGradientOnlyDecayActs) {
  State state(3);
  state.weights = {1.0f, -1.0f, 0.0f};
  state.gradient = {0, 0, 0};
  state.Apply({.learning_rate = 0.5, .weight_decay = 0.5});
  EXPECT_EQ(state.weights, (std::vector<float>{0.75f, -0.75f, 0.0f}));
}

TEST(SumOfSquares, IsRightForAnyNumberOfValues) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{5}, size_t{8}, size_t{16384}, size_t{50001}}) {
    EXPECT_DOUBLE_EQ(SumOfSquares(std::vector<float>(size, 2.0f)), 4.0 * static_cast<double>(size));
  }
}

TEST(SumOfSquares, SpreadsNotANumber) {
  std::vector<float> values(100, 1.0f);
  values[57] = std::nanf("");
  EXPECT_TRUE(std::isnan(SumOfSquares(values)));
}

}  // namespace
}  // namespace bdh::training
