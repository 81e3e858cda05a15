// Sums in a fixed order that a vector unit can follow: entry i goes to lane i mod 16, every lane adds in
// ascending order, and the lanes are added pairwise at the end. The result depends on the size alone, not on
// how wide the machine's vectors are.
#pragma once

#include <cstdint>

namespace bdh::kernels {

inline constexpr int kLanes = 16;

inline float AddLanes(float (&lanes)[kLanes]) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

// Sum over i of term(i).
template <class Term>
inline float LaneSum(int64_t size, Term term) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  }
  for (int lane = 0; i < size; ++i, ++lane) lanes[lane] += term(i);
  return AddLanes(lanes);
}

inline float Dot(const float* x, const float* y, int64_t size) {
  return LaneSum(size, [x, y](int64_t i) { return x[i] * y[i]; });
}

inline float Sum(const float* x, int64_t size) {
  return LaneSum(size, [x](int64_t i) { return x[i]; });
}

inline float SumOfSquares(const float* x, int64_t size, float mean) {
  return LaneSum(size, [x, mean](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
}

}  // namespace bdh::kernels
