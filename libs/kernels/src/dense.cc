#include <algorithm>

#include "bdh/kernels/kernels.h"

namespace bdh::kernels {
namespace {

// Outputs worked on at once: they stay in registers while x goes by.
constexpr int kTile = 32;

void CheckShapes(std::span<const float> x, const WeightMatrix& weights, std::span<float> y) {
  BDH_CHECK(weights.dtype == DType::kF32 && weights.layout == Layout::kRowPerInput);
  BDH_CHECK(static_cast<int64_t>(x.size()) == weights.rows);
  BDH_CHECK(static_cast<int64_t>(y.size()) == weights.columns);
}

// Outputs [column, column + width) of x W. A constant width lets the compiler keep the sums in registers.
template <int kWidth>
inline void Tile(std::span<const float> x, const WeightMatrix& weights, int64_t column, float* __restrict y) {
  float sums[kWidth] = {};
  const float* __restrict row = weights.F32Row(0) + column;
  for (const float input : x) {
    for (int i = 0; i < kWidth; ++i) sums[i] += input * row[i];
    row += weights.row_stride;
  }
  std::copy_n(sums, kWidth, y + column);
}

}  // namespace

void MatVec(std::span<const float> x, const WeightMatrix& weights, std::span<float> y) {
  CheckShapes(x, weights, y);
  int64_t column = 0;
  for (; column + kTile <= weights.columns; column += kTile) Tile<kTile>(x, weights, column, y.data());
  for (; column < weights.columns; ++column) Tile<1>(x, weights, column, y.data());
}

void ReluMatVec(std::span<const float> x, const WeightMatrix& weights, std::span<float> y) {
  MatVec(x, weights, y);
  for (float& value : y) value = std::max(value, 0.0f);
}

}  // namespace bdh::kernels
