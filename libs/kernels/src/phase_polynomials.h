// Sine and cosine of 2 pi r for r in [-1/8, 1/8] turns, in the order in which Horner's rule takes them.
// Largest error over all r: under 1e-7.
#pragma once

namespace bdh::kernels {

inline constexpr float kTwoPi = 6.28318530717958647692f;
inline constexpr float kSine[] = {-1.9515295891e-4f, 8.3321608736e-3f, -1.6666654611e-1f};
inline constexpr float kCosine[] = {2.443315711809948e-5f, -1.388731625493765e-3f, 4.166664568298827e-2f};

}  // namespace bdh::kernels
