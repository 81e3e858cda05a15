#include <cmath>
#include <numbers>

#include "bdh/kernels/kernels.h"

namespace bdh::kernels {

void RopePhases(int64_t position, std::span<const float> turns, std::span<float> cosines,
                std::span<float> sines) {
  BDH_CHECK(turns.size() == cosines.size() && turns.size() == sines.size());
  constexpr float kTwoPi = static_cast<float>(2 * std::numbers::pi);
  const float at = static_cast<float>(position);
  for (size_t i = 0; i < turns.size(); ++i) {
    const float turned = at * turns[i];
    const float phase = (turned - std::floor(turned)) * kTwoPi;  // The difference is exact.
    cosines[i] = std::cos(phase);
    sines[i] = std::sin(phase);
  }
}

void SparseRope(std::span<const float> a, std::span<const float> cosines, std::span<const float> sines,
                SparseVector& k) {
  BDH_CHECK(a.size() == 2 * cosines.size() && cosines.size() == sines.size());
  BDH_CHECK(k.capacity() >= static_cast<int64_t>(a.size()));
  k.Clear();
  const int64_t pairs = static_cast<int64_t>(cosines.size());
  for (int64_t i = 0; i < pairs; ++i) {
    const float even = a[2 * i], odd = a[2 * i + 1];
    if (even == 0.0f && odd == 0.0f) continue;
    const float turned_even = even * cosines[i] - odd * sines[i];
    const float turned_odd = odd * cosines[i] + even * sines[i];
    if (turned_even != 0.0f) k.Add(static_cast<int32_t>(2 * i), turned_even);
    if (turned_odd != 0.0f) k.Add(static_cast<int32_t>(2 * i + 1), turned_odd);
  }
}

}  // namespace bdh::kernels
