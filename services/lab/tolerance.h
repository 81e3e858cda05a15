// How far float32 may be from the reference's float32: rounding in another order, and nothing more.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "services/lab/report.h"

namespace bdh::lab {

inline constexpr double kLogitsTolerance = 2e-5;  // Of the largest logit.
inline constexpr double kLossTolerance = 1e-5;
inline constexpr double kGradientTolerance = 1e-4;  // Of the tensor's largest gradient.
inline constexpr double kStepLossTolerance = 1e-4;

// With bfloat16, whose numbers have eight bits: twice what was measured on the golden files (0.6 % and 1.1 %
// of the largest logit, a loss off by 0.0013, another likeliest token at 3 % of the positions).
inline constexpr double kBf16WeightsTolerance = 0.012;  // Of the largest logit.
inline constexpr double kBf16ProductsTolerance = 0.02;  // Of the largest logit.
inline constexpr double kBf16LossTolerance = 0.003;
inline constexpr double kBf16LikeliestTolerance = 0.06;  // Of the positions.

// `got` against `want`, with a tolerance of `relative` times the largest absolute value wanted.
Check CompareRelative(std::string_view name, const std::vector<float>& got, const std::vector<float>& want,
                      double relative, std::string_view largest_what);

Check CompareAbsolute(std::string_view name, double got, double want, double tolerance);

// `got` against `want` after the `given` tokens that both begin with.
Check CompareTokens(std::string_view name, const std::vector<int64_t>& got, const std::vector<int64_t>& want,
                    size_t given);

}  // namespace bdh::lab
