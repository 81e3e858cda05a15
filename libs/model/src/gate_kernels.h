// The gate of a pass in one run over the memory forward and one backward, where LibTorch's ops take three and
// five. No torch here: spans of floats of one size.
#pragma once

#include <cstdint>
#include <span>

namespace bdh::model {

// Which elements dropout keeps: a function of these numbers and the element's index alone, so that the
// backward pass draws again what the forward pass drew, on any number of threads.
struct Dropout {
  double rate = 0;  // Applied in steps of 1 / 65536.
  uint64_t seed = 0;
};

// product = active * relu(gate), dropped out. What is kept is scaled so that the mean stays. NaN stays NaN.
void GateForward(const Dropout& dropout, std::span<const float> active, std::span<const float> gate,
                 std::span<float> product);

// The gradients of `active` and `gate` from that of `product`.
void GateBackward(const Dropout& dropout, std::span<const float> active, std::span<const float> gate,
                  std::span<const float> product_gradient, std::span<float> active_gradient,
                  std::span<float> gate_gradient);

}  // namespace bdh::model
