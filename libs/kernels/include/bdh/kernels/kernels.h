// The arithmetic of BDH decoding, once as plain loops that define what is right and once for vector units,
// compiled for several instruction sets and chosen when the program starts.
//
// All of them give the same bits (on machines that multiply and add with one rounding): every output is one
// chain of fused multiply-adds in ascending order of index, vectors run across outputs, and where a vector
// must be summed, entry i goes to lane i mod 16 and the lanes are added pairwise. No result depends on how
// many rows a call takes. None allocates or locks.
//
// Widths (of x, y, rho's rows, weights) are padded to kLanes with zeros, neurons to blocks of 16. Pointers
// overlap nowhere unless it is said.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "bdh/kernels/weight_matrix.h"

namespace bdh::kernels {

inline constexpr float kLayerNormEps = 1e-5f;
// Tokens that one call of `fold`, `rho_read_shared` or `gate_decode_shared` takes.
inline constexpr int kMaxTokens = 64;
// Room that packed values need behind the last one.
inline constexpr int64_t kPackSlack = kLanes;

// How positions become phases.
enum class PhaseMode {
  kReference,  // As the reference: one fp32 product of position and frequency, whose error grows with both.
  kPrecise,    // The exact product's fraction, rounded once. Up to position 2^29.
};

// A sparse vector of neurons: bit i of masks[b] says that neuron 16 b + i has a value, and the values follow
// each other in ascending order.
struct PackedNeurons {
  const uint16_t* masks = nullptr;
  const float* values = nullptr;
};

// What one token wrote: its rotated key, which has both neurons of a pair or none, and its value.
struct Factor {
  PackedNeurons key;
  const float* x = nullptr;
};

// One token's share of gate_decode_shared: what it brings, and where its results are added.
struct GateRow {
  PackedNeurons a;
  const float* y = nullptr;
  float* written = nullptr;
  int64_t passed = 0;
};

struct Kernels {
  const char* name;
  bool fused;  // Multiplies and adds with one rounding.

  // y[r] = x[r] W for `rows` rows, relu'd if asked; x has W.rows numbers a row, y W.columns.
  void (*product)(const float* x, int64_t rows, int64_t x_stride, const WeightMatrix& weights, bool relu,
                  float* y, int64_t y_stride);

  // y = (x - mean) / sqrt(variance + eps) over the first `width` numbers, zeros in the padding. y may be x.
  void (*layer_norm)(const float* x, int64_t width, float* y);

  // x = LN(x + LN(z)); z becomes LN(z).
  void (*add_norm)(float* x, float* z, int64_t width);

  // y = parts[0] + parts[1] + ... in this order; part i begins at parts + i * stride.
  void (*sum_parts)(const float* parts, int64_t count, int64_t stride, int64_t width, float* y);

  // turns[2 i] and turns[2 i + 1] become cosine and sine of 2 pi frac(position * frequencies[i]), for
  // `count` frequencies; count is a multiple of kLanes.
  void (*phases)(PhaseMode mode, int64_t position, const float* frequencies, int64_t count, float* turns);

  // Packs the positive entries of `a`, whose others are zero: 16 * blocks numbers. Returns how many.
  int64_t (*pack)(const float* a, int64_t blocks, uint16_t* masks, float* values);

  // dense = the pairs of `a` turned by `turns`; packs the pairs with a positive entry. Returns how many
  // values, which is twice the number of pairs.
  int64_t (*rope)(const float* a, const float* turns, int64_t blocks, float* dense, uint16_t* masks,
                  float* values);

  // y += rho^T key: reads the rows of the key's neurons only.
  void (*rho_read)(const float* rho, int64_t width, PackedNeurons key, int64_t blocks, float* y);

  // The same for several keys of one rho, which is read once: y[t] += rho^T keys[t].
  void (*rho_read_shared)(const float* rho, int64_t width, std::span<const Factor> keys, int64_t blocks,
                          float* y, int64_t y_stride);

  // to = from + sum over tokens of key x^T, in the order given. `from` may be `to`, or null for zeros.
  void (*fold)(const float* from, float* to, int64_t width, std::span<const Factor> factors, int64_t blocks);

  // y += sum over factors, in order, of (dense . key) x.
  void (*tail_read)(const float* dense, std::span<const Factor> factors, int64_t blocks, int64_t width,
                    float* y);

  // out[i, j] = (row i of q) . (row j of k), vectors of 16 * blocks numbers: the same bits as tail_read's.
  void (*scores)(const float* q, int64_t q_rows, const float* k, int64_t k_rows, int64_t blocks, float* out,
                 int64_t out_stride);

  // y += sum over j, in order, of weights[j] x[j].
  void (*weighted_rows)(const float* weights, int64_t count, const float* x, int64_t x_stride, int64_t width,
                        float* y);

  // dense = the vector that `packed` stands for. Returns how many values it has.
  int64_t (*unpack)(PackedNeurons packed, int64_t blocks, float* dense);

  // How many values `blocks` masks stand for.
  int64_t (*count)(const uint16_t* masks, int64_t blocks);

  // For every neuron n of `a` in ascending order: p = a_n relu(y . gate[n]); where p > 0, written += p
  // decoder[n]. Returns how many those are.
  int64_t (*gate_decode)(PackedNeurons a, int64_t blocks, const float* y, const WeightMatrix& gate,
                         const WeightMatrix& decoder, float* written);

  // The same for up to kMaxTokens tokens, which share each row of the weights while it is in a near cache.
  void (*gate_decode_shared)(std::span<GateRow> rows, int64_t blocks, const WeightMatrix& gate,
                             const WeightMatrix& decoder);
};

// The plain loops; and those of a machine that cannot multiply and add with one rounding.
const Kernels& Scalar();
const Kernels& ScalarRoundingTwice();

// The fastest that this machine runs. `BDH_KERNELS=scalar` or another name of All() takes another.
const Kernels& Best();

// Scalar, then every instruction set that is compiled in and runs on this machine.
std::span<const Kernels* const> All();

// Says how numbers come about: two processes with the same id compute the same bits.
std::string_view NumericsId(const Kernels& kernels);

}  // namespace bdh::kernels
