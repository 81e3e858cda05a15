// The same kernels for vector units. Highway compiles what stands between HWY_BEFORE_NAMESPACE and
// HWY_AFTER_NAMESPACE once for every instruction set; SimdKernels below finds what runs here.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "bdh/kernels/kernels.h"
#include "phase_polynomials.h"
#include "simd.h"

// Sizes of vectors must be known when this is compiled.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "simd.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#ifndef BDH_UNROLL
#ifdef __clang__
#define BDH_UNROLL _Pragma("unroll")
#else
#define BDH_UNROLL _Pragma("GCC unroll 32")
#endif
#endif

HWY_BEFORE_NAMESPACE();
namespace bdh::kernels {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

// What every processor of this kind can do is not worth a version of its own.
const Kernels* Table() {
  return &Scalar();
}

#else

namespace hn = hwy::HWY_NAMESPACE;

// A vector, as wide as the machine's but no wider than the 16 lanes that sums are defined with.
constexpr int kN = HWY_MAX_BYTES >= 64 ? 16 : HWY_MAX_BYTES / 4;
constexpr int kPerBlock = kLanes / kN;  // Vectors that make up 16 lanes.
using D = hn::FixedTag<float, kN>;
using V = hn::Vec<D>;
// Vectors that a loop keeps in registers: half of them.
constexpr int kTile = kN == 16 ? 16 : 8;

template <DType kDType>
struct Weights;
template <>
struct Weights<DType::kF32> {
  using T = float;
  static HWY_INLINE V Load(const float* from) { return hn::LoadU(D(), from); }
};
template <>
struct Weights<DType::kBf16> {
  using T = uint16_t;
  static HWY_INLINE V Load(const uint16_t* from) {
    const hn::Rebind<uint16_t, D> narrow;
    const hn::RebindToUnsigned<D> wide;
    return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(wide, hn::LoadU(narrow, from))));
  }
};

// Calls body(Weights<dtype>()).
template <class Body>
HWY_INLINE auto WithType(DType dtype, Body body) {
  if (dtype == DType::kBf16) return body(Weights<DType::kBf16>());
  return body(Weights<DType::kF32>());
}

HWY_INLINE float First(V v) {
  return hn::GetLane(v);
}

// Sixteen lanes to the four that a 128-bit vector has: lane i becomes (i + (i + 8)) + ((i + 4) + (i + 12)).
using D4 = hn::FixedTag<float, 4>;
HWY_INLINE hn::Vec<D4> ToFour(const V (&lanes)[kPerBlock]) {
#if HWY_MAX_BYTES >= 64
  const hn::FixedTag<float, 8> d8;
  const auto eight = hn::Add(hn::LowerHalf(d8, lanes[0]), hn::UpperHalf(d8, lanes[0]));
  return hn::Add(hn::LowerHalf(D4(), eight), hn::UpperHalf(D4(), eight));
#elif HWY_MAX_BYTES == 32
  const auto eight = hn::Add(lanes[0], lanes[1]);
  return hn::Add(hn::LowerHalf(D4(), eight), hn::UpperHalf(D4(), eight));
#else
  return hn::Add(hn::Add(lanes[0], lanes[2]), hn::Add(lanes[1], lanes[3]));
#endif
}

// (0 + 2) + (1 + 3).
HWY_INLINE float AddFour(hn::Vec<D4> four) {
  const D4 d;
  const auto two = hn::Add(four, hn::Shuffle1032(four));
  return hn::GetLane(hn::Add(two, hn::Shuffle2301(two)));
}

// AddFour of four vectors at once.
HWY_INLINE hn::Vec<D4> AddFourByFour(hn::Vec<D4> a, hn::Vec<D4> b, hn::Vec<D4> c, hn::Vec<D4> e) {
  const D4 d;
  const auto ab_low = hn::InterleaveLower(d, a, b), ab_high = hn::InterleaveUpper(d, a, b);
  const auto ce_low = hn::InterleaveLower(d, c, e), ce_high = hn::InterleaveUpper(d, c, e);
  const auto ab = hn::Add(ab_low, ab_high);  // a0+a2 b0+b2 a1+a3 b1+b3
  const auto ce = hn::Add(ce_low, ce_high);
  return hn::Add(hn::ConcatLowerLower(d, ce, ab), hn::ConcatUpperUpper(d, ce, ab));
}

HWY_INLINE float SumLanes(const V (&lanes)[kPerBlock]) {
  return AddFour(ToFour(lanes));
}

HWY_INLINE void ZeroLanes(V (&lanes)[kPerBlock]) {
  BDH_UNROLL
  for (int i = 0; i < kPerBlock; ++i) lanes[i] = hn::Zero(D());
}

// ---- dense products ----

// kRows rows of x times 4 vectors of columns of one panel.
template <int kRows, class W>
HWY_INLINE void ProductTile(const float* x, int64_t x_stride, const typename W::T* panel, int64_t inputs,
                            bool relu, float* y, int64_t y_stride) {
  const D d;
  V sums[kRows][4];
  BDH_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BDH_UNROLL
    for (int v = 0; v < 4; ++v) sums[r][v] = hn::Zero(d);
  }
  for (int64_t i = 0; i < inputs; ++i) {
    V weights[4];
    BDH_UNROLL
    for (int v = 0; v < 4; ++v) weights[v] = W::Load(panel + i * kPanel + v * kN);
    BDH_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const V input = hn::Set(d, x[r * x_stride + i]);
      BDH_UNROLL
      for (int v = 0; v < 4; ++v) sums[r][v] = hn::MulAdd(input, weights[v], sums[r][v]);
    }
  }
  BDH_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BDH_UNROLL
    for (int v = 0; v < 4; ++v) {
      if (relu) sums[r][v] = hn::Max(sums[r][v], hn::Zero(d));
      hn::StoreU(sums[r][v], d, y + r * y_stride + v * kN);
    }
  }
}

template <class W>
void ProductOf(const float* x, int64_t rows, int64_t x_stride, const WeightMatrix& weights, bool relu,
               float* y, int64_t y_stride) {
  constexpr int kMost = kN == 16 ? 6 : 2;
  const auto* data = static_cast<const typename W::T*>(weights.data);
  for (int64_t column = 0; column < weights.columns; column += kPanel) {
    const auto* panel = data + column * weights.rows;
    int64_t r = 0;
    const auto tile = [&](auto count, int64_t part) HWY_ATTR {
      ProductTile<decltype(count)::value, W>(x + r * x_stride, x_stride, panel + part, weights.rows, relu,
                                             y + r * y_stride + column + part, y_stride);
    };
    const auto tiles = [&](auto count) HWY_ATTR {
      for (int64_t part = 0; part < kPanel; part += 4 * kN) tile(count, part);
      r += decltype(count)::value;
    };
    while (r + kMost <= rows) tiles(std::integral_constant<int, kMost>());
    while (kMost > 4 && r + 4 <= rows) tiles(std::integral_constant<int, 4>());
    while (kMost > 2 && r + 2 <= rows) tiles(std::integral_constant<int, 2>());
    while (r < rows) tiles(std::integral_constant<int, 1>());
  }
}

void Product(const float* x, int64_t rows, int64_t x_stride, const WeightMatrix& weights, bool relu, float* y,
             int64_t y_stride) {
  BDH_CHECK(weights.layout == Layout::kPanels);
  WithType(weights.dtype, [&](auto type) HWY_ATTR {
    ProductOf<decltype(type)>(x, rows, x_stride, weights, relu, y, y_stride);
  });
}

// ---- norms ----

// Lanes from `width` on are zero.
HWY_INLINE V Within(V v, int64_t at, int64_t width) {
  const int64_t left = width - at;
  if (left >= kN) return v;
  return left <= 0 ? hn::Zero(D()) : hn::IfThenElseZero(hn::FirstN(D(), static_cast<size_t>(left)), v);
}

void LayerNorm(const float* x, int64_t width, float* y) {
  const D d;
  V lanes[kPerBlock];
  ZeroLanes(lanes);
  for (int64_t i = 0; i < width; i += kLanes) {
    for (int v = 0; v < kPerBlock; ++v) {
      const int64_t at = i + v * kN;
      lanes[v] = hn::Add(lanes[v], Within(hn::LoadU(d, x + at), at, width));
    }
  }
  const V mean = hn::Set(d, SumLanes(lanes) / static_cast<float>(width));
  ZeroLanes(lanes);
  for (int64_t i = 0; i < width; i += kLanes) {
    for (int v = 0; v < kPerBlock; ++v) {
      const int64_t at = i + v * kN;
      const V off = Within(hn::Sub(hn::LoadU(d, x + at), mean), at, width);
      lanes[v] = hn::MulAdd(off, off, lanes[v]);
    }
  }
  const float variance = SumLanes(lanes) / static_cast<float>(width);
  const V scale = hn::Set(d, 1.0f / std::sqrt(variance + kLayerNormEps));
  for (int64_t i = 0; i < RoundUp(width, kLanes); i += kN) {
    hn::StoreU(Within(hn::Mul(hn::Sub(hn::LoadU(d, x + i), mean), scale), i, width), d, y + i);
  }
}

void AddNorm(float* x, float* z, int64_t width) {
  const D d;
  LayerNorm(z, width, z);
  for (int64_t i = 0; i < RoundUp(width, kLanes); i += kN) {
    hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, z + i)), d, x + i);
  }
  LayerNorm(x, width, x);
}

void SumParts(const float* parts, int64_t count, int64_t stride, int64_t width, float* y) {
  const D d;
  for (int64_t i = 0; i < width; i += kN) {
    V sum = hn::LoadU(d, parts + i);
    for (int64_t part = 1; part < count; ++part) sum = hn::Add(sum, hn::LoadU(d, parts + part * stride + i));
    hn::StoreU(sum, d, y + i);
  }
}

// ---- phases ----

HWY_INLINE V FractionOf(PhaseMode mode, int64_t position, const float* frequencies) {
  const D d;
  if (mode == PhaseMode::kReference) {
    const V turned = hn::Mul(hn::Set(d, static_cast<float>(position)), hn::LoadU(d, frequencies));
    return hn::Sub(turned, hn::Floor(turned));
  }
  HWY_ALIGN float fractions[kN];
  const double at = static_cast<double>(position);
  for (int i = 0; i < kN; ++i) {
    const double turned = at * frequencies[i];
    fractions[i] = static_cast<float>(turned - std::floor(turned));
  }
  return hn::Load(d, fractions);
}

void Phases(PhaseMode mode, int64_t position, const float* frequencies, int64_t count, float* turns) {
  const D d;
  const hn::RebindToSigned<D> di;
  for (int64_t i = 0; i < count; i += kN) {
    const V fraction = FractionOf(mode, position, frequencies + i);
    const V quarter = hn::Floor(hn::MulAdd(fraction, hn::Set(d, 4.0f), hn::Set(d, 0.5f)));
    const V angle = hn::Mul(hn::MulAdd(quarter, hn::Set(d, -0.25f), fraction), hn::Set(d, kTwoPi));
    const V square = hn::Mul(angle, angle);
    V sine = hn::MulAdd(hn::Set(d, kSine[0]), square, hn::Set(d, kSine[1]));
    sine = hn::MulAdd(sine, square, hn::Set(d, kSine[2]));
    sine = hn::MulAdd(hn::Mul(sine, square), angle, angle);
    V cosine = hn::MulAdd(hn::Set(d, kCosine[0]), square, hn::Set(d, kCosine[1]));
    cosine = hn::MulAdd(cosine, square, hn::Set(d, kCosine[2]));
    const V flat = hn::MulAdd(hn::Set(d, -0.5f), square, hn::Set(d, 1.0f));
    cosine = hn::MulAdd(hn::Mul(cosine, square), square, flat);

    const auto q = hn::ConvertTo(di, quarter);
    const auto odd = hn::RebindMask(d, hn::TestBit(q, hn::Set(di, 1)));
    const V real = hn::IfThenElse(odd, sine, cosine), imaginary = hn::IfThenElse(odd, cosine, sine);
    const auto flip_real = hn::ShiftLeft<30>(hn::And(hn::Add(q, hn::Set(di, 1)), hn::Set(di, 2)));
    const auto flip_imaginary = hn::ShiftLeft<30>(hn::And(q, hn::Set(di, 2)));
    hn::StoreInterleaved2(hn::Xor(real, hn::BitCast(d, flip_real)),
                          hn::Xor(imaginary, hn::BitCast(d, flip_imaginary)), d, turns + 2 * i);
  }
}

// ---- packing ----

template <class M>
HWY_INLINE uint32_t Bits(M mask) {
#if HWY_TARGET <= HWY_AVX3
  return _cvtmask16_u32(mask.raw);
#else
  uint8_t bytes[8] = {};
  hn::StoreMaskBits(D(), mask, bytes);
  return bytes[0] | uint32_t{bytes[1]} << 8;
#endif
}

// Appends the lanes of `v` that `mask` has; writes a whole vector, which the slack has room for.
template <class M>
HWY_INLINE void Append(V v, M mask, uint32_t bits, float*& values) {
  hn::StoreU(hn::Compress(v, mask), D(), values);
  values += std::popcount(bits);
}

int64_t Pack(const float* a, int64_t blocks, uint16_t* masks, float* values) {
  const D d;
  const float* const begin = values;
  for (int64_t block = 0; block < blocks; ++block) {
    uint32_t all = 0;
    for (int v = 0; v < kPerBlock; ++v) {
      const V active = hn::LoadU(d, a + block * kLanes + v * kN);
      const auto mask = hn::Gt(active, hn::Zero(d));
      const uint32_t bits = Bits(mask);
      Append(active, mask, bits, values);
      all |= bits << (v * kN);
    }
    masks[block] = static_cast<uint16_t>(all);
  }
  return values - begin;
}

int64_t Rope(const float* a, const float* turns, int64_t blocks, float* dense, uint16_t* masks,
             float* values) {
  const D d;
  // The sign bit of even lanes.
  const auto even = hn::BitCast(d, hn::Set(hn::Repartition<uint64_t, D>(), uint64_t{0x80000000}));
  const float* const begin = values;
  for (int64_t block = 0; block < blocks; ++block) {
    uint32_t all = 0;
    for (int v = 0; v < kPerBlock; ++v) {
      const int64_t at = block * kLanes + v * kN;
      const V active = hn::LoadU(d, a + at), turn = hn::LoadU(d, turns + at);
      const V other = hn::Shuffle2301(active);
      const auto mask = hn::Gt(hn::Max(active, other), hn::Zero(d));
      const V turned = hn::MulAdd(other, hn::Xor(hn::DupOdd(turn), even), hn::Mul(active, hn::DupEven(turn)));
      const V key = hn::IfThenElseZero(mask, turned);
      const uint32_t bits = Bits(mask);
      hn::StoreU(key, d, dense + at);
      Append(key, mask, bits, values);
      all |= bits << (v * kN);
    }
    masks[block] = static_cast<uint16_t>(all);
  }
  return values - begin;
}

// Sixteen numbers of which `mask` names those that follow each other at `values`.
HWY_INLINE void UnpackBlock(uint32_t mask, const float* values, float* dense) {
#if HWY_TARGET <= HWY_AVX3
  const D d;
  const __m512 packed = _mm512_loadu_ps(values);  // Slack lies behind the last ones.
  hn::StoreU(V{_mm512_maskz_expand_ps(static_cast<__mmask16>(mask), packed)}, d, dense);
#else
  for (int v = 0; v < kPerBlock; ++v) hn::StoreU(hn::Zero(D()), D(), dense + v * kN);
  for (; mask != 0; mask &= mask - 1) dense[std::countr_zero(mask)] = *values++;
#endif
}

int64_t Unpack(PackedNeurons packed, int64_t blocks, float* dense) {
  const float* values = packed.values;
  for (int64_t block = 0; block < blocks; ++block) {
    UnpackBlock(packed.masks[block], values, dense + block * kLanes);
    values += std::popcount(packed.masks[block]);
  }
  return values - packed.values;
}

int64_t Count(const uint16_t* masks, int64_t blocks) {
  int64_t count = 0, block = 0;
  for (; block + 4 <= blocks; block += 4) {
    uint64_t four;
    std::memcpy(&four, masks + block, sizeof(four));
    count += std::popcount(four);
  }
  for (; block < blocks; ++block) count += std::popcount(masks[block]);
  return count;
}

// ---- rho ----

// Calls body(integral_constant<int, vectors>(), column) for tiles that make up `width`, the widest first.
template <int kMost, class Body>
HWY_INLINE void ForTiles(int64_t width, Body body) {
  int64_t column = 0;
  for (; column + kMost * kN <= width; column += kMost * kN) {
    body(std::integral_constant<int, kMost>(), column);
  }
  if constexpr (kMost > 8) {
    for (; column + 8 * kN <= width; column += 8 * kN) body(std::integral_constant<int, 8>(), column);
  }
  for (; column < width; column += kLanes) body(std::integral_constant<int, kPerBlock>(), column);
}

// For rows that lie here and there in far memory. To the second-level cache: the first-level one has room for
// few that are on their way, and asking it for more is slower than not asking.
HWY_INLINE void PrefetchRow(const void* row, int64_t bytes) {
  const char* line = static_cast<const char*>(row);
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(line + i, 0, 2);
}

// Neurons of the pairs of up to 64 blocks, and their values.
struct PairList {
  static constexpr int64_t kBlocks = 64;
  int32_t neurons[kBlocks * kLanes / 2];
  int count = 0;

  HWY_INLINE void Fill(const uint16_t* masks, int64_t first, int64_t blocks) {
    count = 0;
    for (int64_t block = first; block < first + blocks; ++block) {
      for (uint32_t mask = masks[block] & 0x5555u; mask != 0; mask &= mask - 1) {
        neurons[count++] = static_cast<int32_t>(block * kLanes + std::countr_zero(mask));
      }
    }
  }
};

template <int kVectors>
HWY_INLINE void RhoReadTile(const float* rho, int64_t width, const PairList& pairs, const float* values,
                            float* y) {
  constexpr int kAhead = 8;
  const D d;
  const auto fetch = [&](int p) HWY_ATTR {
    if (p >= pairs.count) return;
    const float* row = rho + pairs.neurons[p] * width;
    PrefetchRow(row, kVectors * kN * 4);
    PrefetchRow(row + width, kVectors * kN * 4);
  };
  for (int p = 0; p < kAhead; ++p) fetch(p);
  V sums[kVectors];
  BDH_UNROLL
  for (int v = 0; v < kVectors; ++v) sums[v] = hn::LoadU(d, y + v * kN);
  for (int p = 0; p < pairs.count; ++p) {
    const float* row = rho + pairs.neurons[p] * width;
    fetch(p + kAhead);
    const V even = hn::Set(d, values[2 * p]), odd = hn::Set(d, values[2 * p + 1]);
    BDH_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[v] = hn::MulAdd(even, hn::LoadU(d, row + v * kN), sums[v]);
    row += width;
    BDH_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[v] = hn::MulAdd(odd, hn::LoadU(d, row + v * kN), sums[v]);
  }
  BDH_UNROLL
  for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, y + v * kN);
}

void RhoRead(const float* rho, int64_t width, PackedNeurons key, int64_t blocks, float* y) {
  PairList pairs;
  const float* values = key.values;
  for (int64_t first = 0; first < blocks; first += PairList::kBlocks) {
    pairs.Fill(key.masks, first, std::min(PairList::kBlocks, blocks - first));
    ForTiles<kTile>(width, [&](auto vectors, int64_t column) HWY_ATTR {
      RhoReadTile<decltype(vectors)::value>(rho + column, width, pairs, values, y + column);
    });
    values += 2 * pairs.count;
  }
}

// One block of 16 neurons of several tokens: their keys side by side, and for every pair the tokens that
// have it.
struct KeyBlock {
  HWY_ALIGN float keys[kMaxTokens][kLanes];
  uint64_t tokens[kLanes / 2];

  template <class Masks, class Cursors>
  HWY_INLINE void Fill(int64_t count, const Masks& masks, Cursors& values, int64_t block) {
    std::fill_n(tokens, kLanes / 2, 0);
    for (int64_t first = 0; first < count; first += 8) {
      uint64_t pairs_of_tokens = 0;
      for (int64_t t = first; t < std::min(first + 8, count); ++t) {
        const uint32_t mask = masks[t][block];
        UnpackBlock(mask, values[t], keys[t]);
        values[t] += std::popcount(mask);
        __builtin_prefetch(values[t] + 4 * kLanes);
        pairs_of_tokens |= PairBits(mask) << 8 * (t - first);
      }
      const uint64_t tokens_of_pairs = Transpose(pairs_of_tokens);
      BDH_UNROLL
      for (int p = 0; p < kLanes / 2; ++p) tokens[p] |= (tokens_of_pairs >> 8 * p & 0xff) << first;
    }
  }

 private:
  // The even bits of a mask, whose odd ones are the same.
  static HWY_INLINE uint64_t PairBits(uint64_t mask) {
    mask &= 0x5555;
    mask = (mask | mask >> 1) & 0x3333;
    mask = (mask | mask >> 2) & 0x0f0f;
    return (mask | mask >> 4) & 0x00ff;
  }

  // Bit i of byte j becomes bit j of byte i.
  static HWY_INLINE uint64_t Transpose(uint64_t bits) {
    uint64_t swapped = (bits ^ bits >> 7) & 0x00aa00aa00aa00aa;
    bits ^= swapped ^ swapped << 7;
    swapped = (bits ^ bits >> 14) & 0x0000cccc0000cccc;
    bits ^= swapped ^ swapped << 14;
    swapped = (bits ^ bits >> 28) & 0x00000000f0f0f0f0;
    return bits ^ swapped ^ swapped << 28;
  }
};

// The keys of a call: where each token's masks and next values are.
struct KeyCursors {
  const uint16_t* masks[kMaxTokens];
  const float* values[kMaxTokens];
  explicit KeyCursors(std::span<const Factor> factors) {
    BDH_CHECK(factors.size() <= kMaxTokens);
    for (size_t t = 0; t < factors.size(); ++t) {
      masks[t] = factors[t].key.masks;
      values[t] = factors[t].key.values;
    }
  }
};

// Blocks whose keys are brought side by side at once, and columns that are worked on at once: what the tokens
// bring to them then stays in the first-level cache.
constexpr int64_t kGroup = 8;
constexpr int kSlice = kTile > 8 ? 8 : 4;
constexpr int64_t kSliceColumns = kSlice * kN;

// Calls body(first, end, keys of the blocks between them) for one group of blocks after the other.
template <class Body>
HWY_INLINE void ForGroups(std::span<const Factor> factors, int64_t blocks, Body body) {
  KeyCursors cursors(factors);
  KeyBlock group[kGroup];
  for (int64_t first = 0; first < blocks; first += kGroup) {
    const int64_t end = std::min(first + kGroup, blocks);
    for (int64_t b = first; b < end; ++b) {
      group[b - first].Fill(static_cast<int64_t>(factors.size()), cursors.masks, cursors.values, b);
    }
    body(first, end, group);
  }
}

// Calls body(integral_constant<int, vectors>(), column) for the slices of `width`.
template <class Body>
HWY_INLINE void ForSlices(int64_t width, Body body) {
  int64_t column = 0;
  for (; column + kSliceColumns <= width; column += kSliceColumns) {
    body(std::integral_constant<int, kSlice>(), column);
  }
  for (; column < width; column += kLanes) body(std::integral_constant<int, kPerBlock>(), column);
}

template <int kVectors>
HWY_INLINE void CopyVectors(const float* from, float* to) {
  BDH_UNROLL
  for (int v = 0; v < kVectors; ++v) hn::StoreU(hn::LoadU(D(), from + v * kN), D(), to + v * kN);
}

// The rows of one pair, `row` and the one behind it, read by the tokens that have the pair; `sums` has a
// slice for each token.
template <int kVectors>
HWY_INLINE void ReadPairShared(const float* row, int64_t width, const KeyBlock& block, int pair,
                               float* sums) {
  const D d;
  V even_row[kVectors], odd_row[kVectors];
  BDH_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    even_row[v] = hn::LoadU(d, row + v * kN);
    odd_row[v] = hn::LoadU(d, row + width + v * kN);
  }
  for (uint64_t tokens = block.tokens[pair]; tokens != 0; tokens &= tokens - 1) {
    const int t = std::countr_zero(tokens);
    const V even = hn::Set(d, block.keys[t][2 * pair]), odd = hn::Set(d, block.keys[t][2 * pair + 1]);
    float* out = sums + t * kVectors * kN;
    BDH_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const V sum = hn::MulAdd(even, even_row[v], hn::Load(d, out + v * kN));
      hn::Store(hn::MulAdd(odd, odd_row[v], sum), d, out + v * kN);
    }
  }
}

void RhoReadShared(const float* rho, int64_t width, std::span<const Factor> keys, int64_t blocks, float* y,
                   int64_t y_stride) {
  const auto count = static_cast<int64_t>(keys.size());
  HWY_ALIGN float sums[kMaxTokens * kSliceColumns];
  ForGroups(keys, blocks, [&](int64_t first, int64_t end, const KeyBlock* group) HWY_ATTR {
    ForSlices(width, [&](auto vectors, int64_t column) HWY_ATTR {
      constexpr int kVectors = decltype(vectors)::value;
      for (int64_t t = 0; t < count; ++t) {
        CopyVectors<kVectors>(y + t * y_stride + column, sums + t * kVectors * kN);
      }
      for (int64_t b = first; b < end; ++b) {
        const float* row = rho + b * kLanes * width + column;
        for (int pair = 0; pair < kLanes / 2; ++pair, row += 2 * width) {
          ReadPairShared<kVectors>(row, width, group[b - first], pair, sums);
        }
      }
      for (int64_t t = 0; t < count; ++t) {
        CopyVectors<kVectors>(sums + t * kVectors * kN, y + t * y_stride + column);
      }
    });
  });
}

// Pairs whose rows are on their way while one is worked on.
constexpr int64_t kPairsAhead = 8;

// Rows of one pair take what the tokens that have the pair bring; `x` has a slice of each token.
template <int kVectors>
HWY_INLINE void FoldPair(const float* from, float* to, int64_t width, const KeyBlock& block, int pair,
                         const float* x) {
  const D d;
  V even_row[kVectors], odd_row[kVectors];
  BDH_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    even_row[v] = from == nullptr ? hn::Zero(d) : hn::LoadU(d, from + v * kN);
    odd_row[v] = from == nullptr ? hn::Zero(d) : hn::LoadU(d, from + width + v * kN);
  }
  for (uint64_t tokens = block.tokens[pair]; tokens != 0; tokens &= tokens - 1) {
    const int t = std::countr_zero(tokens);
    const V even = hn::Set(d, block.keys[t][2 * pair]), odd = hn::Set(d, block.keys[t][2 * pair + 1]);
    const float* values = x + t * kVectors * kN;
    BDH_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const V value = hn::Load(d, values + v * kN);
      even_row[v] = hn::MulAdd(even, value, even_row[v]);
      odd_row[v] = hn::MulAdd(odd, value, odd_row[v]);
    }
  }
  BDH_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    hn::StoreU(even_row[v], d, to + v * kN);
    hn::StoreU(odd_row[v], d, to + width + v * kN);
  }
}

void Fold(const float* from, float* to, int64_t width, std::span<const Factor> factors, int64_t blocks) {
  const auto count = static_cast<int64_t>(factors.size());
  HWY_ALIGN float x[kMaxTokens * kSliceColumns];
  ForGroups(factors, blocks, [&](int64_t first, int64_t end, const KeyBlock* group) HWY_ATTR {
    ForSlices(width, [&](auto vectors, int64_t column) HWY_ATTR {
      constexpr int kVectors = decltype(vectors)::value;
      for (int64_t t = 0; t < count; ++t) {
        CopyVectors<kVectors>(factors[t].x + column, x + t * kVectors * kN);
      }
      for (int64_t b = first; b < end; ++b) {
        for (int pair = 0; pair < kLanes / 2; ++pair) {
          const int64_t at = (b * kLanes + 2 * pair) * width + column;
          const float* source = from == nullptr ? nullptr : from + at;
          if (source != nullptr) {
            PrefetchRow(source + kPairsAhead * 2 * width, kVectors * kN * 4);
            PrefetchRow(source + (kPairsAhead * 2 + 1) * width, kVectors * kN * 4);
          }
          FoldPair<kVectors>(source, to + at, width, group[b - first], pair, x);
        }
      }
    });
  });
}

// ---- the tail ----

// dense . packed. `next` is whose turn comes then: it lies in far memory, too short for the processor to see
// where reading it will lead.
HWY_INLINE float PackedDot(const float* dense, PackedNeurons packed, PackedNeurons next, int64_t blocks) {
  const D d;
  V lanes[kPerBlock];
  ZeroLanes(lanes);
  const float* values = packed.values;
  HWY_ALIGN float unpacked[kLanes];
  PrefetchRow(next.masks, blocks * static_cast<int64_t>(sizeof(uint16_t)));
  for (int64_t block = 0; block < blocks; ++block) {
    const uint32_t mask = packed.masks[block];
    // Half of the neurons have values, at most about.
    if (block % 2 == 0) PrefetchRow(next.values + block / 2 * kLanes, 1);
#if HWY_TARGET <= HWY_AVX3
    const __m512 packed_values = _mm512_loadu_ps(values);  // Slack lies behind the last ones.
    const V key{_mm512_maskz_expand_ps(static_cast<__mmask16>(mask), packed_values)};
    lanes[0] = hn::MulAdd(hn::LoadU(d, dense + block * kLanes), key, lanes[0]);
#else
    UnpackBlock(mask, values, unpacked);
    for (int v = 0; v < kPerBlock; ++v) {
      const V query = hn::LoadU(d, dense + block * kLanes + v * kN);
      lanes[v] = hn::MulAdd(query, hn::Load(d, unpacked + v * kN), lanes[v]);
    }
#endif
    values += std::popcount(mask);
  }
  (void)unpacked;
  return SumLanes(lanes);
}

template <int kVectors>
HWY_INLINE void AddWeighted(float weight, const float* x, float* y) {
  const D d;
  const V factor = hn::Set(d, weight);
  BDH_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    hn::StoreU(hn::MulAdd(factor, hn::LoadU(d, x + v * kN), hn::LoadU(d, y + v * kN)), d, y + v * kN);
  }
}

void TailRead(const float* dense, std::span<const Factor> factors, int64_t blocks, int64_t width, float* y) {
  for (size_t f = 0; f < factors.size(); ++f) {
    const Factor& factor = factors[f];
    const float score =
        PackedDot(dense, factor.key, factors[std::min(f + 1, factors.size() - 1)].key, blocks);
    for (int64_t i = 0; i < width; i += kLanes) AddWeighted<kPerBlock>(score, factor.x + i, y + i);
  }
}

template <int kRows, int kColumns>
HWY_INLINE void ScoreTile(const float* q, const float* k, int64_t size, float* out, int64_t out_stride) {
  const D d;
  V sums[kRows][kColumns][kPerBlock];
  BDH_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BDH_UNROLL
    for (int c = 0; c < kColumns; ++c) ZeroLanes(sums[r][c]);
  }
  for (int64_t i = 0; i < size; i += kLanes) {
    BDH_UNROLL
    for (int v = 0; v < kPerBlock; ++v) {
      V keys[kColumns];
      BDH_UNROLL
      for (int c = 0; c < kColumns; ++c) keys[c] = hn::LoadU(d, k + c * size + i + v * kN);
      BDH_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const V query = hn::LoadU(d, q + r * size + i + v * kN);
        BDH_UNROLL
        for (int c = 0; c < kColumns; ++c) sums[r][c][v] = hn::MulAdd(query, keys[c], sums[r][c][v]);
      }
    }
  }
  BDH_UNROLL
  for (int r = 0; r < kRows; ++r) {
    BDH_UNROLL
    for (int c = 0; c < kColumns; ++c) out[r * out_stride + c] = SumLanes(sums[r][c]);
  }
}

void Scores(const float* q, int64_t q_rows, const float* k, int64_t k_rows, int64_t blocks, float* out,
            int64_t out_stride) {
  constexpr int kSide = kN == 16 ? 4 : (kN == 8 ? 2 : 1);
  const int64_t size = blocks * kLanes;
  int64_t i = 0;
  for (; i + kSide <= q_rows; i += kSide) {
    int64_t j = 0;
    for (; j + kSide <= k_rows; j += kSide) {
      ScoreTile<kSide, kSide>(q + i * size, k + j * size, size, out + i * out_stride + j, out_stride);
    }
    for (; j < k_rows; ++j) {
      ScoreTile<kSide, 1>(q + i * size, k + j * size, size, out + i * out_stride + j, out_stride);
    }
  }
  for (; i < q_rows; ++i) {
    for (int64_t j = 0; j < k_rows; ++j) {
      ScoreTile<1, 1>(q + i * size, k + j * size, size, out + i * out_stride + j, out_stride);
    }
  }
}

void WeightedRows(const float* weights, int64_t count, const float* x, int64_t x_stride, int64_t width,
                  float* y) {
  const D d;
  ForTiles<8>(width, [&](auto vectors, int64_t column) HWY_ATTR {
    constexpr int kVectors = decltype(vectors)::value;
    V sums[kVectors];
    BDH_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[v] = hn::LoadU(d, y + column + v * kN);
    for (int64_t j = 0; j < count; ++j) {
      const V weight = hn::Set(d, weights[j]);
      const float* row = x + j * x_stride + column;
      BDH_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[v] = hn::MulAdd(weight, hn::LoadU(d, row + v * kN), sums[v]);
    }
    BDH_UNROLL
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, y + column + v * kN);
  });
}

// ---- gate and decoder ----

constexpr int32_t kCounting[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Neurons worked on at once: those of one token's next few blocks, or what stays of a tile of them.
struct Neurons {
  static constexpr int kMost = 128;
  int32_t index[kMost + kLanes];
  float value[kMost + kLanes];
  int count = 0;

  // Appends those of `block`; `values` moves on. Writes whole vectors, which there is room for.
  HWY_INLINE void Append(uint32_t mask, int64_t block, const float*& values) {
    const hn::RebindToSigned<D> di;
    for (int v = 0; v < kPerBlock; ++v) {
      const uint8_t bits[8] = {static_cast<uint8_t>(mask >> (v * kN) & (kN < 8 ? (1 << kN) - 1 : 0xff)),
                               static_cast<uint8_t>(mask >> (v * kN) >> 8)};
      const auto lanes = hn::LoadMaskBits(di, bits);
      const auto first = hn::Set(di, static_cast<int32_t>(block * kLanes + v * kN));
      hn::StoreU(hn::Compress(hn::Add(first, hn::LoadU(di, kCounting)), lanes), di, index + count);
      hn::StoreU(hn::LoadU(D(), values), D(), value + count);
      const int found = std::popcount(bits[0]) + (kN > 8 ? std::popcount(bits[1]) : 0);
      count += found;
      values += found;
    }
  }
};

// y . row of four rows, or eight.
template <class W, int kRows>
HWY_INLINE void Dots(const float* y, const typename W::T* rows, const int32_t* index, int64_t width,
                     float* dots) {
  const D d;
  V sums[kRows][kPerBlock];
  const typename W::T* row[kRows];
  BDH_UNROLL
  for (int r = 0; r < kRows; ++r) {
    ZeroLanes(sums[r]);
    row[r] = rows + index[r] * width;
  }
  for (int64_t i = 0; i < width; i += kLanes) {
    BDH_UNROLL
    for (int v = 0; v < kPerBlock; ++v) {
      const int64_t at = i + v * kN;
      const V input = hn::LoadU(d, y + at);
      BDH_UNROLL
      for (int r = 0; r < kRows; ++r) sums[r][v] = hn::MulAdd(input, W::Load(row[r] + at), sums[r][v]);
    }
  }
  BDH_UNROLL
  for (int r = 0; r < kRows; r += 4) {
    hn::StoreU(AddFourByFour(ToFour(sums[r]), ToFour(sums[r + 1]), ToFour(sums[r + 2]), ToFour(sums[r + 3])),
               D4(), dots + r);
  }
}

// Appends to `passed` what stays of `active`: p = a relu(y . gate row), where it is positive.
template <class W, class Ahead>
HWY_INLINE void Gate(const float* y, const WeightMatrix& gate, Neurons& active, Neurons& passed,
                     Ahead ahead) {
  const D d;
  const hn::RebindToSigned<D> di;
  const int64_t width = gate.columns;
  const auto* rows = static_cast<const typename W::T*>(gate.data);
  // The last ones may be fewer than a vector: rows that are there stand in, and a zero lets none pass.
  for (int v = 0; v < kPerBlock; ++v) {
    hn::StoreU(hn::Zero(di), di, active.index + active.count + v * kN);
    hn::StoreU(hn::Zero(d), d, active.value + active.count + v * kN);
  }
  HWY_ALIGN float dots[Neurons::kMost + kLanes];
  constexpr int kMost = kN == 16 ? 8 : 4;
  int at = 0;
  for (; at + 4 < active.count; at += kMost) {
    ahead(at);
    if (kMost > 4) ahead(at + 4);
    Dots<W, kMost>(y, rows, active.index + at, width, dots + at);
  }
  for (; at < active.count; at += 4) {
    ahead(at);
    Dots<W, 4>(y, rows, active.index + at, width, dots + at);
  }
  for (int i = 0; i < active.count; i += kN) {
    const V gates = hn::Max(hn::Load(d, dots + i), hn::Zero(d));
    const V products = hn::Mul(hn::LoadU(d, active.value + i), gates);
    const auto stays = hn::Gt(products, hn::Zero(d));
    hn::StoreU(hn::Compress(products, stays), d, passed.value + passed.count);
    hn::StoreU(hn::Compress(hn::LoadU(di, active.index + i), hn::RebindMask(di, stays)), di,
               passed.index + passed.count);
    passed.count += static_cast<int>(hn::CountTrue(d, stays));
  }
}

template <int kVectors, class W>
HWY_INLINE void DecodeTile(const typename W::T* rows, int64_t width, const Neurons& passed, float* written) {
  const D d;
  V sums[kVectors];
  BDH_UNROLL
  for (int v = 0; v < kVectors; ++v) sums[v] = hn::LoadU(d, written + v * kN);
  for (int i = 0; i < passed.count; ++i) {
    const auto* row = rows + passed.index[i] * width;
    const V p = hn::Set(d, passed.value[i]);
    BDH_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[v] = hn::MulAdd(p, W::Load(row + v * kN), sums[v]);
  }
  BDH_UNROLL
  for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, written + v * kN);
}

template <class W>
HWY_INLINE void Decode(const WeightMatrix& decoder, const Neurons& passed, float* written) {
  const int64_t width = decoder.columns;
  const auto* rows = static_cast<const typename W::T*>(decoder.data);
  ForTiles<kTile>(width, [&](auto vectors, int64_t column) HWY_ATTR {
    DecodeTile<decltype(vectors)::value, W>(rows + column, width, passed, written + column);
  });
}

// For one token the weights are in no cache: gate rows of the next batch are asked for while this one is
// worked on, decoder rows as soon as it is known which, and used a batch later.
template <class W>
int64_t GateDecodeOf(PackedNeurons a, int64_t blocks, const float* y, const WeightMatrix& gate,
                     const WeightMatrix& decoder, float* written) {
  constexpr int kBatch = 32;
  const int64_t width = gate.columns;
  const auto fetch = [&](const WeightMatrix& matrix, const Neurons& neurons, int begin, int end) HWY_ATTR {
    const auto* rows = static_cast<const typename W::T*>(matrix.data);
    for (int i = begin; i < std::min(end, neurons.count); ++i) {
      PrefetchRow(rows + neurons.index[i] * width, width * static_cast<int64_t>(sizeof(typename W::T)));
    }
  };
  Neurons buffers[4];
  Neurons *active = &buffers[0], *next = &buffers[1], *passed = &buffers[2], *before = &buffers[3];
  const float* values = a.values;
  int64_t block = 0, count = 0;
  const auto fill = [&](Neurons& batch) HWY_ATTR {
    batch.count = 0;
    for (; block < blocks && batch.count < kBatch; ++block) batch.Append(a.masks[block], block, values);
  };
  fill(*active);
  fetch(gate, *active, 0, Neurons::kMost);
  while (active->count > 0) {
    fill(*next);
    passed->count = 0;
    Gate<W>(y, gate, *active, *passed, [&](int i) HWY_ATTR { fetch(gate, *next, i, i + 4); });
    fetch(gate, *next, static_cast<int>(RoundUp(active->count, 4)), Neurons::kMost);
    fetch(decoder, *passed, 0, Neurons::kMost);
    Decode<W>(decoder, *before, written);
    count += passed->count;
    std::swap(passed, before);
    std::swap(active, next);
  }
  Decode<W>(decoder, *before, written);
  return count;
}

int64_t GateDecode(PackedNeurons a, int64_t blocks, const float* y, const WeightMatrix& gate,
                   const WeightMatrix& decoder, float* written) {
  BDH_CHECK(gate.layout == Layout::kRows && decoder.layout == Layout::kRows);
  BDH_CHECK(gate.columns == decoder.columns && gate.dtype == decoder.dtype);
  return WithType(gate.dtype, [&](auto type) HWY_ATTR {
    return GateDecodeOf<decltype(type)>(a, blocks, y, gate, decoder, written);
  });
}

// Asks for a stretch of memory a little at a time, for the second-level cache.
class Prefetcher {
 public:
  HWY_INLINE void Add(const char* begin, int64_t bytes, int64_t turns) {
    next_ = begin;
    end_ = begin + bytes;
    each_ = RoundUp((bytes + turns - 1) / turns, 64);
  }
  HWY_INLINE void Turn() {
    const char* until = std::min(next_ + each_, end_);
    for (; next_ < until; next_ += 64) __builtin_prefetch(next_, 0, 2);
  }

 private:
  const char* next_ = nullptr;
  const char* end_ = nullptr;
  int64_t each_ = 0;
};

// Gate rows of a few blocks stay in the first-level cache while the tokens take turns; decoder rows of a tile
// in the second-level one; those of the next tile are on their way.
template <class W>
void GateDecodeSharedOf(std::span<GateRow> rows, int64_t blocks, const WeightMatrix& gate,
                        const WeightMatrix& decoder) {
  constexpr int64_t kTileBlocks = Neurons::kMost / kLanes;
  const int64_t row_bytes = gate.columns * static_cast<int64_t>(sizeof(typename W::T));
  const int64_t near = std::clamp<int64_t>((64 << 10) / (row_bytes * kLanes), 1, kTileBlocks);
  const auto turns = static_cast<int64_t>(rows.size()) * ((kTileBlocks + near - 1) / near);
  Neurons passed[kMaxTokens];
  const float* values[kMaxTokens];
  for (size_t t = 0; t < rows.size(); ++t) values[t] = rows[t].a.values;
  for (int64_t first = 0; first < blocks; first += kTileBlocks) {
    const int64_t end = std::min(blocks, first + kTileBlocks);
    const int64_t left = std::min((blocks - end) * kLanes, int64_t{Neurons::kMost}) * row_bytes;
    Prefetcher next_gate, next_decoder;
    next_gate.Add(static_cast<const char*>(gate.data) + end * kLanes * row_bytes, left, turns);
    next_decoder.Add(static_cast<const char*>(decoder.data) + end * kLanes * row_bytes, left, turns);
    for (size_t t = 0; t < rows.size(); ++t) passed[t].count = 0;
    for (int64_t some = first; some < end; some += near) {
      for (size_t t = 0; t < rows.size(); ++t) {
        Neurons active;
        for (int64_t block = some; block < std::min(end, some + near); ++block) {
          active.Append(rows[t].a.masks[block], block, values[t]);
        }
        Gate<W>(rows[t].y, gate, active, passed[t], [](int) {});
        next_gate.Turn();
        next_decoder.Turn();
      }
    }
    for (size_t t = 0; t < rows.size(); ++t) {
      Decode<W>(decoder, passed[t], rows[t].written);
      rows[t].passed += passed[t].count;
    }
  }
}

void GateDecodeShared(std::span<GateRow> rows, int64_t blocks, const WeightMatrix& gate,
                      const WeightMatrix& decoder) {
  BDH_CHECK(gate.layout == Layout::kRows && decoder.layout == Layout::kRows && rows.size() <= kMaxTokens);
  BDH_CHECK(gate.columns == decoder.columns && gate.dtype == decoder.dtype);
  WithType(gate.dtype,
           [&](auto type) HWY_ATTR { GateDecodeSharedOf<decltype(type)>(rows, blocks, gate, decoder); });
}

const Kernels* Table() {
  static const Kernels kTable = {
      .name = hwy::TargetName(HWY_TARGET),
      .fused = HWY_NATIVE_FMA != 0,
      .product = Product,
      .layer_norm = LayerNorm,
      .add_norm = AddNorm,
      .sum_parts = SumParts,
      .phases = Phases,
      .pack = Pack,
      .rope = Rope,
      .rho_read = RhoRead,
      .rho_read_shared = RhoReadShared,
      .fold = Fold,
      .tail_read = TailRead,
      .scores = Scores,
      .weighted_rows = WeightedRows,
      .unpack = Unpack,
      .count = Count,
      .gate_decode = GateDecode,
      .gate_decode_shared = GateDecodeShared,
  };
  return &kTable;
}

#endif  // HWY_TARGET

}  // namespace HWY_NAMESPACE
}  // namespace bdh::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bdh::kernels {

HWY_EXPORT(Table);

std::vector<const Kernels*> SimdKernels() {
  std::vector<const Kernels*> found;
  // Lower numbers are better instruction sets.
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    const Kernels* kernels = HWY_DYNAMIC_DISPATCH(Table)();
    if (kernels != &Scalar()) found.push_back(kernels);
  }
  hwy::SetSupportedTargetsForTest(0);
  std::reverse(found.begin(), found.end());
  return found;
}

}  // namespace bdh::kernels
#endif  // HWY_ONCE
