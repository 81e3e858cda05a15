// The arithmetic of one BDH decode step. These plain loops are the definition of correct: a faster twin gives
// the same numbers.
//
// Every function is deterministic: an output is one chain of operations in a fixed order that depends on
// sizes alone, so equal inputs give equal bits whatever else runs. None allocates or locks. Sizes that do not
// fit each other are bugs of the caller and abort.
#pragma once

#include <cstdint>
#include <span>

#include "bdh/kernels/weight_matrix.h"

namespace bdh::kernels {

inline constexpr float kLayerNormEps = 1e-5f;

// The non-zero entries of a vector in ascending order of index, in storage that the caller owns.
class SparseVector {
 public:
  SparseVector(std::span<int32_t> indices, std::span<float> values) : indices_(indices), values_(values) {}

  void Clear() { size_ = 0; }
  void Add(int32_t index, float value) {
    indices_[size_] = index;
    values_[size_] = value;
    ++size_;
  }
  int64_t size() const { return size_; }
  int64_t capacity() const { return static_cast<int64_t>(indices_.size()); }
  std::span<const int32_t> indices() const { return indices_.first(size_); }
  std::span<const float> values() const { return values_.first(size_); }

 private:
  std::span<int32_t> indices_;
  std::span<float> values_;
  int64_t size_ = 0;
};

// The reads and folds of rho[N, D], one row a neuron, row after row.
using RhoView = std::span<float>;

// y = (x - mean(x)) / sqrt(variance(x) + eps), without affine part. `y` may be `x`.
void LayerNorm(std::span<const float> x, std::span<float> y);

// y = x + z, then as above.
void AddLayerNorm(std::span<const float> x, std::span<const float> z, std::span<float> y);

// y = x W for W of layout kRowPerInput.
void MatVec(std::span<const float> x, const WeightMatrix& weights, std::span<float> y);

// y = relu(x W).
void ReluMatVec(std::span<const float> x, const WeightMatrix& weights, std::span<float> y);

// Cosine and sine of every pair's phase at `position`: phase = frac(position * turns[i]) * 2 pi, with one
// fp32 multiply before the fraction is taken, as the reference does.
void RopePhases(int64_t position, std::span<const float> turns, std::span<float> cosines,
                std::span<float> sines);

// k = the pairs (2i, 2i+1) of `a` turned by their phases; only entries that are not zero.
void SparseRope(std::span<const float> a, std::span<const float> cosines, std::span<const float> sines,
                SparseVector& k);

// y = rho^T k: touches the rows of k's entries only.
void RhoRead(RhoView rho, const SparseVector& k, std::span<float> y);

// rho += k x^T: touches the rows of k's entries only.
void RhoFold(RhoView rho, const SparseVector& k, std::span<const float> x);

// RhoRead, then RhoFold, with one pass over the rows: the same bits, half the memory traffic.
void RhoReadFold(RhoView rho, const SparseVector& k, std::span<const float> x, std::span<float> y);

// p = a * relu(y V): the rows of V (layout kRowPerOutput) are read where `a` is positive, and p keeps its
// positive entries.
void GatedProduct(std::span<const float> a, std::span<const float> y, const WeightMatrix& gate,
                  SparseVector& p);

// y += p W for W with one row an entry of p's vector: touches the rows of p's entries only.
void AccumulateRows(const SparseVector& p, const WeightMatrix& weights, std::span<float> y);

}  // namespace bdh::kernels
