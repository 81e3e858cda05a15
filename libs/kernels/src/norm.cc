#include <cmath>

#include "bdh/kernels/kernels.h"
#include "lanes.h"

namespace bdh::kernels {

void LayerNorm(std::span<const float> x, std::span<float> y) {
  BDH_CHECK(x.size() == y.size() && !x.empty());
  const int64_t size = static_cast<int64_t>(x.size());
  const float mean = Sum(x.data(), size) / static_cast<float>(size);
  // Two passes: the difference of squares would cancel where the mean is large.
  const float variance = SumOfSquares(x.data(), size, mean) / static_cast<float>(size);
  const float scale = 1.0f / std::sqrt(variance + kLayerNormEps);
  for (int64_t i = 0; i < size; ++i) y[i] = (x[i] - mean) * scale;
}

void AddLayerNorm(std::span<const float> x, std::span<const float> z, std::span<float> y) {
  BDH_CHECK(x.size() == z.size() && x.size() == y.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] + z[i];
  LayerNorm(y, y);
}

}  // namespace bdh::kernels
