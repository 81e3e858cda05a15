// The definition: each kernel as the plainest loop that says what it computes.
#include <algorithm>
#include <bit>
#include <cmath>

#include "bdh/kernels/kernels.h"
#include "phase_polynomials.h"

namespace bdh::kernels {
namespace {

float Weight(const WeightMatrix& weights, int64_t element) {
  if (weights.dtype == DType::kBf16) return FromBf16(static_cast<const uint16_t*>(weights.data)[element]);
  return static_cast<const float*>(weights.data)[element];
}

float Relu(float value) {
  return value > 0.0f ? value : 0.0f;
}

// Calls visit(neuron, value) for every entry.
template <class Visit>
void ForEach(PackedNeurons packed, int64_t blocks, Visit visit) {
  const float* value = packed.values;
  for (int64_t block = 0; block < blocks; ++block) {
    for (uint32_t mask = packed.masks[block]; mask != 0; mask &= mask - 1) {
      visit(block * kLanes + std::countr_zero(mask), *value++);
    }
  }
}

// The lanes of a sum are added pairwise, so that the result depends on the size alone and not on how wide the
// machine's vectors are.
float AddLanes(float (&lanes)[kLanes]) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

template <bool kFused>
struct Loops {
  static float Madd(float x, float y, float z) { return kFused ? std::fma(x, y, z) : x * y + z; }

  // Sum over i of x(i) * y(i): entry i goes to lane i mod 16. `size` is a multiple of kLanes.
  template <class X, class Y>
  static float LaneDot(int64_t size, X x, Y y) {
    float lanes[kLanes] = {};
    for (int64_t i = 0; i < size; ++i) lanes[i % kLanes] = Madd(x(i), y(i), lanes[i % kLanes]);
    return AddLanes(lanes);
  }

  static void Product(const float* x, int64_t rows, int64_t x_stride, const WeightMatrix& weights, bool relu,
                      float* y, int64_t y_stride) {
    BDH_CHECK(weights.layout == Layout::kPanels);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < weights.columns; ++c) {
        const int64_t first = c / kPanel * kPanel * weights.rows + c % kPanel;
        float sum = 0;
        for (int64_t i = 0; i < weights.rows; ++i) {
          sum = Madd(x[r * x_stride + i], Weight(weights, first + i * kPanel), sum);
        }
        y[r * y_stride + c] = relu ? Relu(sum) : sum;
      }
    }
  }

  static void LayerNorm(const float* x, int64_t width, float* y) {
    const int64_t padded = RoundUp(width, kLanes);
    float lanes[kLanes] = {}, squares[kLanes] = {};
    for (int64_t i = 0; i < width; ++i) lanes[i % kLanes] += x[i];
    const float mean = AddLanes(lanes) / static_cast<float>(width);
    // Two passes: the difference of squares would cancel where the mean is large.
    for (int64_t i = 0; i < width; ++i) {
      const float off = x[i] - mean;
      squares[i % kLanes] = Madd(off, off, squares[i % kLanes]);
    }
    const float variance = AddLanes(squares) / static_cast<float>(width);
    const float scale = 1.0f / std::sqrt(variance + kLayerNormEps);
    for (int64_t i = 0; i < width; ++i) y[i] = (x[i] - mean) * scale;
    std::fill(y + width, y + padded, 0.0f);
  }

  static void AddNorm(float* x, float* z, int64_t width) {
    LayerNorm(z, width, z);
    for (int64_t i = 0; i < width; ++i) x[i] += z[i];
    LayerNorm(x, width, x);
  }

  static void SumParts(const float* parts, int64_t count, int64_t stride, int64_t width, float* y) {
    for (int64_t i = 0; i < width; ++i) {
      y[i] = parts[i];
      for (int64_t part = 1; part < count; ++part) y[i] += parts[part * stride + i];
    }
  }

  static float Fraction(PhaseMode mode, int64_t position, float frequency) {
    if (mode == PhaseMode::kReference) {
      const float turned = static_cast<float>(position) * frequency;
      return turned - std::floor(turned);  // The difference is exact.
    }
    const double turned = static_cast<double>(position) * frequency;
    return static_cast<float>(turned - std::floor(turned));
  }

  static void Phases(PhaseMode mode, int64_t position, const float* frequencies, int64_t count,
                     float* turns) {
    for (int64_t i = 0; i < count; ++i) {
      const float fraction = Fraction(mode, position, frequencies[i]);
      const float quarter = std::floor(Madd(fraction, 4.0f, 0.5f));
      const float angle = Madd(quarter, -0.25f, fraction) * kTwoPi;  // Between -pi/4 and pi/4.
      const float square = angle * angle;
      const float sine_tail = Madd(Madd(kSine[0], square, kSine[1]), square, kSine[2]);
      const float sine = Madd(sine_tail * square, angle, angle);
      const float cosine_tail = Madd(Madd(kCosine[0], square, kCosine[1]), square, kCosine[2]);
      const float cosine = Madd(cosine_tail * square, square, Madd(-0.5f, square, 1.0f));
      const int q = static_cast<int>(quarter);
      const float real = q & 1 ? sine : cosine, imaginary = q & 1 ? cosine : sine;
      turns[2 * i] = (q + 1) & 2 ? -real : real;
      turns[2 * i + 1] = q & 2 ? -imaginary : imaginary;
    }
  }

  static int64_t Pack(const float* a, int64_t blocks, uint16_t* masks, float* values) {
    int64_t count = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      masks[block] = 0;
      for (int i = 0; i < kLanes; ++i) {
        const float value = a[block * kLanes + i];
        if (!(value > 0.0f)) continue;
        masks[block] = static_cast<uint16_t>(masks[block] | (1 << i));
        values[count++] = value;
      }
    }
    return count;
  }

  static int64_t Rope(const float* a, const float* turns, int64_t blocks, float* dense, uint16_t* masks,
                      float* values) {
    int64_t count = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      masks[block] = 0;
      for (int64_t i = block * kLanes; i < (block + 1) * kLanes; i += 2) {
        const float even = a[i], odd = a[i + 1], cosine = turns[i], sine = turns[i + 1];
        dense[i] = dense[i + 1] = 0.0f;
        if (!(even > 0.0f || odd > 0.0f)) continue;
        dense[i] = Madd(odd, -sine, even * cosine);
        dense[i + 1] = Madd(even, sine, odd * cosine);
        masks[block] = static_cast<uint16_t>(masks[block] | (3 << (i % kLanes)));
        values[count++] = dense[i];
        values[count++] = dense[i + 1];
      }
    }
    return count;
  }

  static void RhoRead(const float* rho, int64_t width, PackedNeurons key, int64_t blocks, float* y) {
    ForEach(key, blocks, [&](int64_t neuron, float value) {
      for (int64_t i = 0; i < width; ++i) y[i] = Madd(value, rho[neuron * width + i], y[i]);
    });
  }

  static void RhoReadShared(const float* rho, int64_t width, std::span<const Factor> keys, int64_t blocks,
                            float* y, int64_t y_stride) {
    for (const Factor& factor : keys) {
      RhoRead(rho, width, factor.key, blocks, y);
      y += y_stride;
    }
  }

  static void Fold(const float* from, float* to, int64_t width, std::span<const Factor> factors,
                   int64_t blocks) {
    if (from == nullptr) std::fill_n(to, blocks * kLanes * width, 0.0f);
    if (from != nullptr && from != to) std::copy_n(from, blocks * kLanes * width, to);
    for (const Factor& factor : factors) {
      ForEach(factor.key, blocks, [&](int64_t neuron, float value) {
        float* row = to + neuron * width;
        for (int64_t i = 0; i < width; ++i) row[i] = Madd(value, factor.x[i], row[i]);
      });
    }
  }

  static int64_t Unpack(PackedNeurons packed, int64_t blocks, float* dense) {
    std::fill_n(dense, blocks * kLanes, 0.0f);
    ForEach(packed, blocks, [&](int64_t neuron, float value) { dense[neuron] = value; });
    return Count(packed.masks, blocks);
  }

  static int64_t Count(const uint16_t* masks, int64_t blocks) {
    int64_t count = 0;
    for (int64_t block = 0; block < blocks; ++block) count += std::popcount(masks[block]);
    return count;
  }

  static float PackedDot(const float* dense, PackedNeurons packed, int64_t blocks) {
    // Zeros are multiplied too: a sum that underflowed to -0 becomes 0 then, as it does in other forms.
    const float* value = packed.values;
    return LaneDot(
        blocks * kLanes, [&](int64_t i) { return dense[i]; },
        [&](int64_t i) { return packed.masks[i / kLanes] >> (i % kLanes) & 1 ? *value++ : 0.0f; });
  }

  static void TailRead(const float* dense, std::span<const Factor> factors, int64_t blocks, int64_t width,
                       float* y) {
    for (const Factor& factor : factors) {
      const float score = PackedDot(dense, factor.key, blocks);
      for (int64_t i = 0; i < width; ++i) y[i] = Madd(score, factor.x[i], y[i]);
    }
  }

  static void Scores(const float* q, int64_t q_rows, const float* k, int64_t k_rows, int64_t blocks,
                     float* out, int64_t out_stride) {
    const int64_t size = blocks * kLanes;
    for (int64_t i = 0; i < q_rows; ++i) {
      for (int64_t j = 0; j < k_rows; ++j) {
        out[i * out_stride + j] = LaneDot(
            size, [&](int64_t n) { return q[i * size + n]; }, [&](int64_t n) { return k[j * size + n]; });
      }
    }
  }

  static void WeightedRows(const float* weights, int64_t count, const float* x, int64_t x_stride,
                           int64_t width, float* y) {
    for (int64_t j = 0; j < count; ++j) {
      for (int64_t i = 0; i < width; ++i) y[i] = Madd(weights[j], x[j * x_stride + i], y[i]);
    }
  }

  static int64_t GateDecode(PackedNeurons a, int64_t blocks, const float* y, const WeightMatrix& gate,
                            const WeightMatrix& decoder, float* written) {
    BDH_CHECK(gate.layout == Layout::kRows && decoder.layout == Layout::kRows);
    BDH_CHECK(gate.columns == decoder.columns);
    const int64_t width = gate.columns;
    int64_t count = 0;
    ForEach(a, blocks, [&](int64_t neuron, float value) {
      const auto y_at = [&](int64_t i) { return y[i]; };
      const auto gate_at = [&](int64_t i) { return Weight(gate, neuron * width + i); };
      const float p = value * Relu(LaneDot(width, y_at, gate_at));
      if (!(p > 0.0f)) return;
      ++count;
      for (int64_t i = 0; i < width; ++i) {
        written[i] = Madd(p, Weight(decoder, neuron * width + i), written[i]);
      }
    });
    return count;
  }

  static void GateDecodeShared(std::span<GateRow> rows, int64_t blocks, const WeightMatrix& gate,
                               const WeightMatrix& decoder) {
    for (GateRow& row : rows) row.passed += GateDecode(row.a, blocks, row.y, gate, decoder, row.written);
  }

  static constexpr Kernels kTable = {
      .name = kFused ? "scalar" : "scalar-rounding-twice",
      .fused = kFused,
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
};

}  // namespace

const Kernels& Scalar() {
  return Loops<true>::kTable;
}

const Kernels& ScalarRoundingTwice() {
  return Loops<false>::kTable;
}

}  // namespace bdh::kernels
