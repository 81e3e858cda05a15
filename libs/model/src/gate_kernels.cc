// Compiled with OpenMP and -O3, see CMakeLists.txt; without OpenMP it is the same on one thread.
#include "gate_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace bdh::model {
namespace {

constexpr int64_t kBlock = 4096;  // Has random numbers of its own. Small enough for the first-level cache.
// Fewer are not worth waking other threads. Unused where there is no OpenMP.
[[maybe_unused]] constexpr int64_t kMinBlocks = 16;
constexpr uint32_t kSteps = 1 << 16;  // Sixteen random bits decide on an element.

// splitmix64.
class Random {
 public:
  Random(uint64_t seed, uint64_t stream) : state_(Mix(seed) ^ Mix(~stream)) {}
  uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15u); }

 private:
  static uint64_t Mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
  }
  uint64_t state_;
};

// What dropout multiplies the elements of one block by: 0 or 1 / the share that is kept.
using Factors = std::array<float, kBlock>;

void DrawFactors(const Dropout& dropout, int64_t block, Factors& factors) {
  const auto dropped = static_cast<uint32_t>(std::lround(dropout.rate * kSteps));
  const float scale = static_cast<float>(kSteps) / static_cast<float>(std::max(kSteps - dropped, 1u));
  Random random(dropout.seed, static_cast<uint64_t>(block));
  for (int64_t i = 0; i < kBlock; i += 4) {
    const uint64_t bits = random.Next();
    for (int64_t k = 0; k < 4; ++k) factors[i + k] = (bits >> (16 * k) & 0xffff) < dropped ? 0 : scale;
  }
}

// Calls body(begin, size, factors) for each block of `count` elements.
template <class Body>
void ForBlocks(const Dropout& dropout, int64_t count, const Body& body) {
  const int64_t blocks = (count + kBlock - 1) / kBlock;
#pragma omp parallel if (blocks >= kMinBlocks)
  {
    Factors factors;
    factors.fill(1);
#pragma omp for schedule(static)
    for (int64_t block = 0; block < blocks; ++block) {
      if (dropout.rate > 0) DrawFactors(dropout, block, factors);
      body(block * kBlock, std::min(kBlock, count - block * kBlock), factors.data());
    }
  }
}

// The loops stand in functions of plain pointers that do not overlap: only so does the vectoriser take them.
void ForwardBlock(int64_t count, const float* __restrict factors, const float* __restrict active,
                  const float* __restrict gate, float* __restrict product) {
  for (int64_t i = 0; i < count; ++i) product[i] = active[i] * (gate[i] < 0 ? 0 : gate[i]) * factors[i];
}

void BackwardBlock(int64_t count, const float* __restrict factors, const float* __restrict active,
                   const float* __restrict gate, const float* __restrict product_gradient,
                   float* __restrict active_gradient, float* __restrict gate_gradient) {
  for (int64_t i = 0; i < count; ++i) {
    const float kept = product_gradient[i] * factors[i], open = kept * active[i];
    active_gradient[i] = kept * (gate[i] < 0 ? 0 : gate[i]);
    gate_gradient[i] = gate[i] <= 0 ? 0 : open;
  }
}

}  // namespace

void GateForward(const Dropout& dropout, std::span<const float> active, std::span<const float> gate,
                 std::span<float> product) {
  ForBlocks(dropout, std::ssize(product), [&](int64_t begin, int64_t count, const float* factors) {
    ForwardBlock(count, factors, &active[begin], &gate[begin], &product[begin]);
  });
}

void GateBackward(const Dropout& dropout, std::span<const float> active, std::span<const float> gate,
                  std::span<const float> product_gradient, std::span<float> active_gradient,
                  std::span<float> gate_gradient) {
  ForBlocks(dropout, std::ssize(product_gradient), [&](int64_t begin, int64_t count, const float* factors) {
    BackwardBlock(count, factors, &active[begin], &gate[begin], &product_gradient[begin],
                  &active_gradient[begin], &gate_gradient[begin]);
  });
}

}  // namespace bdh::model
