#include <algorithm>

#include "bdh/kernels/kernels.h"
#include "lanes.h"

namespace bdh::kernels {
namespace {

void CheckRho(RhoView rho, const SparseVector& k, int64_t width) {
  BDH_CHECK(width > 0 && rho.size() % width == 0);
  BDH_CHECK(k.size() == 0 || k.indices().back() < static_cast<int64_t>(rho.size()) / width);
}

}  // namespace

void RhoRead(RhoView rho, const SparseVector& k, std::span<float> y) {
  const int64_t width = static_cast<int64_t>(y.size());
  CheckRho(rho, k, width);
  std::fill(y.begin(), y.end(), 0.0f);
  float* __restrict out = y.data();
  for (int64_t n = 0; n < k.size(); ++n) {
    const float* __restrict row = rho.data() + k.indices()[n] * width;
    const float key = k.values()[n];
    for (int64_t i = 0; i < width; ++i) out[i] += key * row[i];
  }
}

void RhoFold(RhoView rho, const SparseVector& k, std::span<const float> x) {
  const int64_t width = static_cast<int64_t>(x.size());
  CheckRho(rho, k, width);
  const float* __restrict in = x.data();
  for (int64_t n = 0; n < k.size(); ++n) {
    float* __restrict row = rho.data() + k.indices()[n] * width;
    const float key = k.values()[n];
    for (int64_t i = 0; i < width; ++i) row[i] += key * in[i];
  }
}

void RhoReadFold(RhoView rho, const SparseVector& k, std::span<const float> x, std::span<float> y) {
  const int64_t width = static_cast<int64_t>(y.size());
  BDH_CHECK(x.size() == y.size());
  CheckRho(rho, k, width);
  std::fill(y.begin(), y.end(), 0.0f);
  const float* __restrict in = x.data();
  float* __restrict out = y.data();
  for (int64_t n = 0; n < k.size(); ++n) {
    float* __restrict row = rho.data() + k.indices()[n] * width;
    const float key = k.values()[n];
    for (int64_t i = 0; i < width; ++i) {
      out[i] += key * row[i];
      row[i] += key * in[i];
    }
  }
}

void GatedProduct(std::span<const float> a, std::span<const float> y, const WeightMatrix& gate,
                  SparseVector& p) {
  BDH_CHECK(gate.dtype == DType::kF32 && gate.layout == Layout::kRowPerOutput);
  BDH_CHECK(static_cast<int64_t>(a.size()) == gate.rows && static_cast<int64_t>(y.size()) == gate.columns);
  BDH_CHECK(p.capacity() >= static_cast<int64_t>(a.size()));
  p.Clear();
  const int64_t width = gate.columns;
  for (int64_t n = 0; n < gate.rows; ++n) {
    if (!(a[n] > 0.0f)) continue;
    const float product = a[n] * std::max(Dot(y.data(), gate.F32Row(n), width), 0.0f);
    if (product > 0.0f) p.Add(static_cast<int32_t>(n), product);
  }
}

void AccumulateRows(const SparseVector& p, const WeightMatrix& weights, std::span<float> y) {
  BDH_CHECK(weights.dtype == DType::kF32 && weights.columns == static_cast<int64_t>(y.size()));
  BDH_CHECK(p.size() == 0 || p.indices().back() < weights.rows);
  float* __restrict out = y.data();
  for (int64_t n = 0; n < p.size(); ++n) {
    const float* __restrict row = weights.F32Row(p.indices()[n]);
    const float value = p.values()[n];
    for (int64_t i = 0; i < weights.columns; ++i) out[i] += value * row[i];
  }
}

}  // namespace bdh::kernels
