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

// `got` against `want`, with a tolerance of `relative` times the largest absolute value wanted.
Check CompareRelative(std::string_view name, const std::vector<float>& got, const std::vector<float>& want,
                      double relative, std::string_view largest_what);

Check CompareAbsolute(std::string_view name, double got, double want, double tolerance);

// `got` against `want` after the `given` tokens that both begin with.
Check CompareTokens(std::string_view name, const std::vector<int64_t>& got, const std::vector<int64_t>& want,
                    size_t given);

}  // namespace bdh::lab
