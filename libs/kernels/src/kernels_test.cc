// Proves that every kernel that runs here computes the bits of its scalar twin, at widths and counts around
// every vector and tile, and that the twins compute what the header says, against sums in double.
#include "bdh/kernels/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numbers>
#include <random>
#include <vector>

namespace bdh::kernels {
namespace {

const int64_t kWidths[] = {16, 32, 48, 96, 128, 256, 272, 400};
const int64_t kBlocks[] = {1, 2, 3, 7, 65};
const int64_t kCounts[] = {1, 2, 3, 5, 6, 7, 13, 64};

std::vector<float> Random(int64_t size, int seed) {
  std::mt19937 generator(seed);
  std::vector<float> values(size);
  for (float& value : values) value = static_cast<float>(generator()) / 2147483648.0f - 1.0f;
  return values;
}

// About a quarter of the entries are positive, the others zero.
std::vector<float> RandomActive(int64_t size, int seed) {
  std::vector<float> values = Random(size, seed);
  for (float& value : values) value = std::max(value - 0.5f, 0.0f);
  return values;
}

// A packed vector and its storage.
struct Packed {
  explicit Packed(int64_t blocks) : masks(blocks), values(blocks * kLanes + kPackSlack) {}
  PackedNeurons view() const { return {masks.data(), values.data()}; }
  std::vector<uint16_t> masks;
  std::vector<float> values;
  int64_t count = 0;
};

Packed PackedOf(const std::vector<float>& a) {
  Packed packed(static_cast<int64_t>(a.size()) / kLanes);
  packed.count = Scalar().pack(a.data(), static_cast<int64_t>(packed.masks.size()), packed.masks.data(),
                               packed.values.data());
  return packed;
}

// The rotated key of a random activation, packed and dense.
struct Key : Packed {
  Key(const Kernels& kernels, int64_t blocks, int seed) : Packed(blocks), dense(blocks * kLanes) {
    std::vector<float> turns(blocks * kLanes), frequencies(RoundUp(blocks * kLanes / 2, kLanes), 0.013f);
    turns.resize(2 * frequencies.size());
    Scalar().phases(PhaseMode::kPrecise, 7, frequencies.data(), static_cast<int64_t>(frequencies.size()),
                    turns.data());
    count = kernels.rope(RandomActive(blocks * kLanes, seed).data(), turns.data(), blocks, dense.data(),
                         masks.data(), values.data());
  }
  std::vector<float> dense;
};

// Keys and values of `count` tokens.
struct Tokens {
  Tokens(int64_t count, int64_t blocks, int64_t width) : x(Random(count * width, 77)) {
    for (int64_t t = 0; t < count; ++t) keys.emplace_back(Scalar(), blocks, 100 + static_cast<int>(t));
    for (int64_t t = 0; t < count; ++t) factors.push_back({keys[t].view(), x.data() + t * width});
  }
  std::vector<float> x;
  std::vector<Key> keys;
  std::vector<Factor> factors;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Weights in storage of their own.
struct Owned {
  Owned(const std::vector<float>& values, int64_t rows, int64_t columns, DType dtype, Layout layout)
      : bytes(PackedBytes(dtype, layout, rows, columns)),
        matrix(Pack(values.data(), rows, columns, columns, 1, dtype, layout, bytes.data())) {}
  std::vector<char> bytes;
  WeightMatrix matrix;
};

class KernelsTest : public testing::TestWithParam<const Kernels*> {
 protected:
  const Kernels& kernels_ = *GetParam();
  const Kernels& twin_ = kernels_.fused ? Scalar() : ScalarRoundingTwice();
};

TEST_P(KernelsTest, ProductIsOneChainPerOutput) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int64_t inputs : {1, 7, 96}) {
      for (const int64_t outputs : {1, 64, 130}) {
        const Owned weights(Random(inputs * outputs, 2), inputs, outputs, dtype, Layout::kPanels);
        for (const int64_t rows : kCounts) {
          const auto x = Random(rows * inputs, 1);
          std::vector<float> y(rows * weights.matrix.columns), twin(y.size());
          for (const bool relu : {false, true}) {
            kernels_.product(x.data(), rows, inputs, weights.matrix, relu, y.data(), weights.matrix.columns);
            twin_.product(x.data(), rows, inputs, weights.matrix, relu, twin.data(), weights.matrix.columns);
            ASSERT_TRUE(SameBits(y, twin)) << inputs << " " << outputs << " " << rows;
          }
        }
      }
    }
  }
}

TEST_P(KernelsTest, NormsAgreeAndKeepThePaddingZero) {
  for (const int64_t width : {1, 2, 15, 16, 17, 24, 96, 255, 256}) {
    auto x = Random(RoundUp(width, kLanes), 1), z = Random(RoundUp(width, kLanes), 2);
    std::fill(x.begin() + width, x.end(), 0.0f);
    std::fill(z.begin() + width, z.end(), 0.0f);
    auto x_twin = x, z_twin = z, y = x, y_twin = x;
    kernels_.layer_norm(x.data(), width, y.data());
    twin_.layer_norm(x.data(), width, y_twin.data());
    EXPECT_TRUE(SameBits(y, y_twin)) << width;
    kernels_.add_norm(x.data(), z.data(), width);
    twin_.add_norm(x_twin.data(), z_twin.data(), width);
    EXPECT_TRUE(SameBits(x, x_twin)) << width;
    for (size_t i = width; i < x.size(); ++i) EXPECT_EQ(x[i], 0.0f);
  }
}

TEST_P(KernelsTest, PartsAreAddedInOrder) {
  const auto parts = Random(5 * 48, 1);
  std::vector<float> y(48), twin(48);
  kernels_.sum_parts(parts.data(), 5, 48, 48, y.data());
  twin_.sum_parts(parts.data(), 5, 48, 48, twin.data());
  EXPECT_TRUE(SameBits(y, twin));
}

TEST_P(KernelsTest, PhasesAgreeAtAnyPosition) {
  const auto random = Random(64, 5);
  std::vector<float> frequencies, turns(128), twin(128);
  for (const float value : random) frequencies.push_back(0.16f * value * value);
  for (const PhaseMode mode : {PhaseMode::kReference, PhaseMode::kPrecise}) {
    for (const int64_t position : {0, 1, 2, 511, 512, 100003, 16777215, 536870911}) {
      kernels_.phases(mode, position, frequencies.data(), 64, turns.data());
      twin_.phases(mode, position, frequencies.data(), 64, twin.data());
      EXPECT_TRUE(SameBits(turns, twin)) << position;
    }
  }
}

TEST_P(KernelsTest, PackingAgreesAndUnpackingUndoesIt) {
  for (const int64_t blocks : kBlocks) {
    const auto a = RandomActive(blocks * kLanes, 9);
    Packed packed(blocks);
    const Packed twin = PackedOf(a);
    packed.count = kernels_.pack(a.data(), blocks, packed.masks.data(), packed.values.data());
    ASSERT_EQ(packed.count, twin.count);
    EXPECT_EQ(packed.masks, twin.masks);
    EXPECT_EQ(0, std::memcmp(packed.values.data(), twin.values.data(), packed.count * sizeof(float)));
    std::vector<float> dense(a.size(), -1.0f);
    EXPECT_EQ(kernels_.unpack(packed.view(), blocks, dense.data()), twin.count);
    EXPECT_TRUE(SameBits(dense, a));
    EXPECT_EQ(kernels_.count(packed.masks.data(), blocks), twin.count);

    const Key key(kernels_, blocks, 3), key_twin(twin_, blocks, 3);
    ASSERT_EQ(key.count, key_twin.count);
    EXPECT_EQ(key.masks, key_twin.masks);
    EXPECT_TRUE(SameBits(key.dense, key_twin.dense));
    EXPECT_EQ(0, std::memcmp(key.values.data(), key_twin.values.data(), key.count * sizeof(float)));
    kernels_.unpack(key.view(), blocks, dense.data());
    EXPECT_TRUE(SameBits(dense, key.dense));
  }
}

TEST_P(KernelsTest, RhoIsReadAndFoldedInOneOrderAloneAndTogether) {
  for (const int64_t width : kWidths) {
    for (const int64_t blocks : {1, 3, 65}) {
      for (const int64_t count : {1, 3, 64}) {
        if (width * blocks * count > 500'000) continue;
        const Tokens tokens(count, blocks, width);
        const auto before = Random(blocks * kLanes * width, 4);
        auto rho = before, rho_twin = before;
        auto y = Random(count * width, 6), y_twin = y, y_shared = y;
        kernels_.rho_read_shared(rho.data(), width, tokens.factors, blocks, y_shared.data(), width);
        for (int64_t t = 0; t < count; ++t) {
          const PackedNeurons key = tokens.factors[t].key;
          kernels_.rho_read(rho.data(), width, key, blocks, y.data() + t * width);
          twin_.rho_read(rho.data(), width, key, blocks, y_twin.data() + t * width);
        }
        ASSERT_TRUE(SameBits(y, y_twin)) << width << " " << blocks << " " << count;
        ASSERT_TRUE(SameBits(y_shared, y_twin)) << width << " " << blocks << " " << count;

        kernels_.fold(rho.data(), rho.data(), width, tokens.factors, blocks);
        twin_.fold(rho_twin.data(), rho_twin.data(), width, tokens.factors, blocks);
        ASSERT_TRUE(SameBits(rho, rho_twin)) << width << " " << blocks << " " << count;
        std::vector<float> copy(rho.size(), 5.0f), anew(rho.size(), 6.0f), anew_twin(rho.size(), 7.0f);
        kernels_.fold(before.data(), copy.data(), width, tokens.factors, blocks);
        EXPECT_TRUE(SameBits(copy, rho_twin)) << "into another place";
        kernels_.fold(nullptr, anew.data(), width, tokens.factors, blocks);
        twin_.fold(nullptr, anew_twin.data(), width, tokens.factors, blocks);
        EXPECT_TRUE(SameBits(anew, anew_twin)) << "from nothing";
      }
    }
  }
}

TEST_P(KernelsTest, FoldingInBulkHasTheBitsOfFoldingOneByOne) {
  const Tokens tokens(20, 3, 48);
  std::vector<float> bulk(3 * kLanes * 48), single(bulk.size());
  kernels_.fold(nullptr, bulk.data(), 48, tokens.factors, 3);
  for (const Factor& factor : tokens.factors)
    kernels_.fold(single.data(), single.data(), 48, {&factor, 1}, 3);
  EXPECT_TRUE(SameBits(bulk, single));
}

TEST_P(KernelsTest, TheTailIsReadWithTheSameBitsPackedOrDense) {
  for (const int64_t blocks : kBlocks) {
    for (const int64_t count : {1, 4, 7}) {
      constexpr int64_t kWidth = 48;
      const Tokens tokens(count, blocks, kWidth);
      std::vector<float> dense_keys, y(count * kWidth), twin(y.size()), by_scores(y.size());
      for (const Key& key : tokens.keys) {
        dense_keys.insert(dense_keys.end(), key.dense.begin(), key.dense.end());
      }
      std::vector<float> scores(count * count), scores_twin(count * count);
      kernels_.scores(dense_keys.data(), count, dense_keys.data(), count, blocks, scores.data(), count);
      twin_.scores(dense_keys.data(), count, dense_keys.data(), count, blocks, scores_twin.data(), count);
      ASSERT_TRUE(SameBits(scores, scores_twin)) << blocks << " " << count;
      for (int64_t t = 0; t < count; ++t) {
        const float* query = tokens.keys[t].dense.data();
        kernels_.tail_read(query, tokens.factors, blocks, kWidth, y.data() + t * kWidth);
        twin_.tail_read(query, tokens.factors, blocks, kWidth, twin.data() + t * kWidth);
        kernels_.weighted_rows(scores.data() + t * count, count, tokens.x.data(), kWidth, kWidth,
                               by_scores.data() + t * kWidth);
      }
      ASSERT_TRUE(SameBits(y, twin)) << blocks << " " << count;
      ASSERT_TRUE(SameBits(by_scores, twin)) << blocks << " " << count;
    }
  }
}

TEST_P(KernelsTest, GateAndDecoderAgreeAloneAndTogether) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int64_t width : kWidths) {
      for (const int64_t blocks : {1, 2, 7, 17}) {
        const int64_t neurons = blocks * kLanes;
        const Owned gate(Random(neurons * width, 3), neurons, width, dtype, Layout::kRows);
        const Owned decoder(Random(neurons * width, 4), neurons, width, dtype, Layout::kRows);
        for (const int64_t count : {1, 5, 64}) {
          if (count > 5 && width > 96) continue;
          const auto y = Random(count * width, 2);
          auto written = Random(count * width, 5), twin = written, shared = written;
          std::vector<Packed> active;
          std::vector<GateRow> rows;
          for (int64_t t = 0; t < count; ++t) active.push_back(PackedOf(RandomActive(neurons, 10 + t)));
          for (int64_t t = 0; t < count; ++t) {
            rows.push_back({active[t].view(), y.data() + t * width, shared.data() + t * width, 3});
          }
          kernels_.gate_decode_shared(rows, blocks, gate.matrix, decoder.matrix);
          for (int64_t t = 0; t < count; ++t) {
            const PackedNeurons a = active[t].view();
            const int64_t passed = twin_.gate_decode(a, blocks, y.data() + t * width, gate.matrix,
                                                     decoder.matrix, twin.data() + t * width);
            EXPECT_EQ(kernels_.gate_decode(a, blocks, y.data() + t * width, gate.matrix, decoder.matrix,
                                           written.data() + t * width),
                      passed);
            EXPECT_EQ(rows[t].passed, 3 + passed);
          }
          ASSERT_TRUE(SameBits(written, twin)) << width << " " << blocks << " " << count;
          ASSERT_TRUE(SameBits(shared, twin)) << width << " " << blocks << " " << count;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, KernelsTest, testing::ValuesIn(All().begin(), All().end()),
                         [](const auto& info) { return std::string(info.param->name); });

// ---- the twins themselves ----

TEST(Definition, LayerNormHasMeanZeroAndVarianceOne) {
  for (const int64_t size : {1, 2, 17, 64, 255}) {
    auto x = Random(RoundUp(size, kLanes), 1), y = x;
    Scalar().layer_norm(x.data(), size, y.data());
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < size; ++i) mean += x[i] / static_cast<double>(size);
    for (int64_t i = 0; i < size; ++i) variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(size);
    for (int64_t i = 0; i < size; ++i) EXPECT_NEAR(y[i], (x[i] - mean) / std::sqrt(variance + 1e-5), 2e-5);
  }
}

TEST(Definition, LayerNormOfEqualNumbersIsZeroAndNotNoise) {
  for (const float value : {0.0f, 1e6f}) {
    std::vector<float> x(64, value);
    Scalar().layer_norm(x.data(), 64, x.data());
    for (const float out : x) EXPECT_EQ(out, 0.0f);
  }
}

TEST(Definition, ReferencePhasesAreOneFp32MultiplyThenTheFraction) {
  std::vector<float> frequencies(16, 0.15915494f), turns(32);
  frequencies[1] = 0.1f, frequencies[2] = 1e-4f, frequencies[3] = 2.5e-6f;
  for (const int64_t position : {0, 1, 511, 512, 100003}) {
    Scalar().phases(PhaseMode::kReference, position, frequencies.data(), 16, turns.data());
    for (int i = 0; i < 16; ++i) {
      const double phase =
          std::fmod(static_cast<float>(position) * frequencies[i], 1.0f) * 2 * std::numbers::pi;
      EXPECT_NEAR(turns[2 * i], std::cos(phase), 2e-7);
      EXPECT_NEAR(turns[2 * i + 1], std::sin(phase), 2e-7);
    }
  }
}

TEST(Definition, PrecisePhasesDoNotDriftWithThePosition) {
  std::vector<float> frequencies(16, 0.15915494f), turns(32);
  for (const int64_t position : {1, 100003, 16777217, 536870911}) {
    Scalar().phases(PhaseMode::kPrecise, position, frequencies.data(), 16, turns.data());
    const auto turned = static_cast<long double>(position) * frequencies[0];
    const auto phase =
        static_cast<double>((turned - std::floor(turned)) * 2 * std::numbers::pi_v<long double>);
    EXPECT_NEAR(turns[0], std::cos(phase), 3e-7) << position;
    EXPECT_NEAR(turns[1], std::sin(phase), 3e-7) << position;
  }
}

TEST(Definition, RopeTurnsPairsAndLeavesPairsOfZerosOut) {
  std::vector<float> a(16), turns(32), frequencies(16, 0.03f), dense(16), values(32);
  a[2] = 3, a[5] = 2, a[6] = 1, a[7] = 4;
  Scalar().phases(PhaseMode::kReference, 7, frequencies.data(), 16, turns.data());
  uint16_t mask;
  EXPECT_EQ(Scalar().rope(a.data(), turns.data(), 1, dense.data(), &mask, values.data()), 6);
  EXPECT_EQ(mask, 0b11111100);
  for (int i = 0; i < 16; i += 2) {
    EXPECT_FLOAT_EQ(dense[i], a[i] * turns[i] - a[i + 1] * turns[i + 1]);
    EXPECT_FLOAT_EQ(dense[i + 1], a[i + 1] * turns[i] + a[i] * turns[i + 1]);
  }
}

TEST(Definition, AStateReadsBackWhatWasFoldedWeightedByHowKeysAgree) {
  constexpr int64_t kTokens = 5, kWidth = 32, kNeurons = 48;
  const Tokens tokens(kTokens, 3, kWidth);
  const Key query(Scalar(), 3, 1);
  std::vector<float> rho(kNeurons * kWidth), read(kWidth), tail(kWidth);
  Scalar().fold(nullptr, rho.data(), kWidth, tokens.factors, 3);
  Scalar().rho_read(rho.data(), kWidth, query.view(), 3, read.data());
  Scalar().tail_read(query.dense.data(), tokens.factors, 3, kWidth, tail.data());
  for (int64_t i = 0; i < kWidth; ++i) {
    double expected = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      double agreement = 0;
      for (int64_t n = 0; n < kNeurons; ++n) agreement += double{query.dense[n]} * tokens.keys[t].dense[n];
      expected += agreement * tokens.x[t * kWidth + i];
    }
    EXPECT_NEAR(read[i], expected, 1e-5);
    EXPECT_NEAR(tail[i], expected, 1e-5);
  }
}

TEST(Definition, GateAndDecoderAreTheirSumsInDouble) {
  constexpr int64_t kWidth = 48, kNeurons = 64;
  const auto a = RandomActive(kNeurons, 1), y = Random(kWidth, 2), gate = Random(kNeurons * kWidth, 3),
             decoder = Random(kNeurons * kWidth, 4);
  std::vector<float> written(kWidth, 0.5f);
  std::vector<double> expected(kWidth, 0.5);
  const Packed packed = PackedOf(a);
  Scalar().gate_decode(packed.view(), 4, y.data(),
                       Owned(gate, kNeurons, kWidth, DType::kF32, Layout::kRows).matrix,
                       Owned(decoder, kNeurons, kWidth, DType::kF32, Layout::kRows).matrix, written.data());
  for (int64_t n = 0; n < kNeurons; ++n) {
    double sum = 0;
    for (int64_t i = 0; i < kWidth; ++i) sum += double{y[i]} * gate[n * kWidth + i];
    for (int64_t i = 0; i < kWidth; ++i) expected[i] += a[n] * std::max(sum, 0.0) * decoder[n * kWidth + i];
  }
  for (int64_t i = 0; i < kWidth; ++i) EXPECT_NEAR(written[i], expected[i], 1e-5);
}

TEST(Definition, ProductIsTheSumOverInputs) {
  const auto x = Random(33, 1), w = Random(33 * 70, 2);
  std::vector<float> y(128);
  Scalar().product(x.data(), 1, 33, Owned(w, 33, 70, DType::kF32, Layout::kPanels).matrix, false, y.data(),
                   128);
  for (int64_t o = 0; o < 70; ++o) {
    double sum = 0;
    for (int64_t i = 0; i < 33; ++i) sum += double{x[i]} * w[i * 70 + o];
    EXPECT_NEAR(y[o], sum, 1e-5);
  }
  for (int64_t o = 70; o < 128; ++o) EXPECT_EQ(y[o], 0.0f) << "padding";
}

TEST(Bf16, RoundsToTheNearestTiesToEven) {
  for (const float exact : {0.0f, 1.0f, -2.5f, 1.0078125f}) EXPECT_EQ(FromBf16(ToBf16(exact)), exact);
  EXPECT_EQ(FromBf16(ToBf16(1.00390625f)), 1.0f) << "half way, 1 is even";
  EXPECT_EQ(FromBf16(ToBf16(1.01171875f)), 1.015625f) << "half way, the upper one is even";
  EXPECT_EQ(FromBf16(ToBf16(1.004f)), 1.0078125f);
}

TEST(Choice, BestIsOneOfAllAndScalarIsFirst) {
  EXPECT_EQ(All()[0], &Scalar());
  EXPECT_NE(std::find(All().begin(), All().end(), &Best()), All().end());
  EXPECT_EQ(NumericsId(Scalar()), "bdh-1/fma");
}

}  // namespace
}  // namespace bdh::kernels
