// Proves that the kernels are what their header says: against straightforward sums in double, at sizes around
// every block and lane width, and bit for bit where two of them must agree.
#include "bdh/kernels/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <random>
#include <vector>

namespace bdh::kernels {
namespace {

const std::vector<int64_t> kSizes = {1, 2, 7, 15, 16, 17, 31, 32, 33, 64, 255};

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

struct OwnedSparse {
  explicit OwnedSparse(int64_t capacity) : indices(capacity), values(capacity), vector(indices, values) {}
  static OwnedSparse Of(const std::vector<float>& dense) {
    OwnedSparse sparse(dense.size());
    for (size_t i = 0; i < dense.size(); ++i) {
      if (dense[i] != 0) sparse.vector.Add(static_cast<int32_t>(i), dense[i]);
    }
    return sparse;
  }
  std::vector<float> Dense() const {
    std::vector<float> dense(indices.size());
    for (int64_t i = 0; i < vector.size(); ++i) dense[vector.indices()[i]] = vector.values()[i];
    return dense;
  }
  std::vector<int32_t> indices;
  std::vector<float> values;
  SparseVector vector;
};

TEST(LayerNorm, HasMeanZeroAndVarianceOne) {
  for (const int64_t size : kSizes) {
    const auto x = Random(size, 1);
    std::vector<float> y(size);
    LayerNorm(x, y);
    double mean = 0, variance = 0;
    for (const float value : x) mean += value / size;
    for (const float value : x) variance += (value - mean) * (value - mean) / size;
    for (int64_t i = 0; i < size; ++i) EXPECT_NEAR(y[i], (x[i] - mean) / std::sqrt(variance + 1e-5), 2e-5);
  }
}

TEST(LayerNorm, OfZeroIsExactlyZero) {
  std::vector<float> x(33, 0.0f);
  LayerNorm(x, x);
  for (const float value : x) EXPECT_EQ(value, 0.0f);
}

TEST(LayerNorm, OfLargeEqualNumbersIsZeroAndNotNoise) {
  std::vector<float> x(64, 1e6f);
  LayerNorm(x, x);
  for (const float value : x) EXPECT_EQ(value, 0.0f);
}

TEST(AddLayerNorm, IsTheNormOfTheSum) {
  const auto x = Random(33, 1), z = Random(33, 2);
  std::vector<float> sum(33), expected(33), y(33);
  for (int i = 0; i < 33; ++i) sum[i] = x[i] + z[i];
  LayerNorm(sum, expected);
  AddLayerNorm(x, z, y);
  EXPECT_EQ(y, expected);
}

TEST(MatVec, IsTheSumOverInputsAtAnySize) {
  for (const int64_t inputs : kSizes) {
    for (const int64_t outputs : kSizes) {
      const auto x = Random(inputs, 1), w = Random(inputs * outputs, 2);
      const auto matrix = F32Matrix(w, Layout::kRowPerInput, inputs, outputs);
      std::vector<float> y(outputs), relu(outputs);
      MatVec(x, matrix, y);
      ReluMatVec(x, matrix, relu);
      for (int64_t o = 0; o < outputs; ++o) {
        double sum = 0;
        for (int64_t i = 0; i < inputs; ++i) sum += double{x[i]} * w[i * outputs + o];
        EXPECT_NEAR(y[o], sum, 1e-5 * std::sqrt(inputs));
        EXPECT_EQ(relu[o], std::max(y[o], 0.0f));
      }
    }
  }
}

TEST(Rope, PhasesAreOneFp32MultiplyThenTheFraction) {
  const std::vector<float> turns = {0.15915494f, 0.1f, 1e-4f, 2.5e-6f};
  for (const int64_t position : {0, 1, 511, 512, 100003}) {
    std::vector<float> cosines(4), sines(4);
    RopePhases(position, turns, cosines, sines);
    for (int i = 0; i < 4; ++i) {
      const float turned = static_cast<float>(position) * turns[i];
      const double phase = std::fmod(turned, 1.0f) * 2 * std::numbers::pi;
      EXPECT_NEAR(cosines[i], std::cos(phase), 1e-6);
      EXPECT_NEAR(sines[i], std::sin(phase), 1e-6);
    }
  }
}

TEST(Rope, TurnsPairsAndKeepsOnlyWhatIsNotZero) {
  const std::vector<float> a = {0, 0, 3, 0, 0, 2, 1, 4};
  std::vector<float> cosines(4), sines(4);
  RopePhases(7, std::vector<float>{0.1f, 0.02f, 0.003f, 0.0004f}, cosines, sines);
  OwnedSparse k(8);
  SparseRope(a, cosines, sines, k.vector);
  const auto dense = k.Dense();
  for (int i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(dense[2 * i], a[2 * i] * cosines[i] - a[2 * i + 1] * sines[i]);
    EXPECT_FLOAT_EQ(dense[2 * i + 1], a[2 * i + 1] * cosines[i] + a[2 * i] * sines[i]);
  }
  EXPECT_EQ(k.vector.indices()[0], 2) << "a pair of zeros stays out";
}

TEST(Rope, AtPositionZeroChangesNothing) {
  const auto a = RandomActive(64, 3);
  std::vector<float> cosines(32), sines(32);
  RopePhases(0, std::vector<float>(32, 0.1f), cosines, sines);
  OwnedSparse k(64);
  SparseRope(a, cosines, sines, k.vector);
  EXPECT_EQ(k.Dense(), a);
}

TEST(Rho, ReadOfAnEmptyStateIsExactlyZero) {
  std::vector<float> rho(64 * 16, 0.0f), y(16, 1.0f);
  RhoRead(rho, OwnedSparse::Of(RandomActive(64, 1)).vector, y);
  for (const float value : y) EXPECT_EQ(value, 0.0f);
}

TEST(Rho, ReadsBackWhatWasFoldedWeightedByHowKeysAgree) {
  for (const int64_t width : kSizes) {
    constexpr int64_t kNeurons = 48;
    std::vector<float> rho(kNeurons * width, 0.0f), y(width);
    std::vector<std::vector<float>> keys, values;
    for (int t = 0; t < 5; ++t) {
      keys.push_back(RandomActive(kNeurons, 10 + t));
      values.push_back(Random(width, 20 + t));
      RhoFold(rho, OwnedSparse::Of(keys[t]).vector, values[t]);
    }
    const auto query = RandomActive(kNeurons, 30);
    RhoRead(rho, OwnedSparse::Of(query).vector, y);
    for (int64_t i = 0; i < width; ++i) {
      double expected = 0;
      for (int t = 0; t < 5; ++t) {
        double agreement = 0;
        for (int64_t n = 0; n < kNeurons; ++n) agreement += double{query[n]} * keys[t][n];
        expected += agreement * values[t][i];
      }
      EXPECT_NEAR(y[i], expected, 1e-5);
    }
  }
}

TEST(Rho, ReadFoldHasTheBitsOfReadThenFold) {
  for (const int64_t width : kSizes) {
    const auto key = OwnedSparse::Of(RandomActive(48, 1));
    const auto x = Random(width, 2);
    std::vector<float> one = Random(48 * width, 3), other = one, y(width), both(width);
    RhoRead(one, key.vector, y);
    RhoFold(one, key.vector, x);
    RhoReadFold(other, key.vector, x, both);
    EXPECT_EQ(y, both);
    EXPECT_EQ(one, other);
  }
}

TEST(Rho, FoldTouchesOnlyTheRowsOfItsKeys) {
  std::vector<float> rho = Random(8 * 4, 1);
  const std::vector<float> before = rho;
  RhoFold(rho, OwnedSparse::Of({0, 0, 2, 0, 0, 0, 0, 0}).vector, std::vector<float>{1, 1, 1, 1});
  for (int i = 0; i < 32; ++i) EXPECT_EQ(rho[i] == before[i], i / 4 != 2);
}

TEST(GatedProduct, IsTheActivationTimesTheGateWhereBothArePositive) {
  for (const int64_t width : kSizes) {
    constexpr int64_t kNeurons = 40;
    const auto a = RandomActive(kNeurons, 1), y = Random(width, 2), gate = Random(kNeurons * width, 3);
    OwnedSparse p(kNeurons);
    GatedProduct(a, y, F32Matrix(gate, Layout::kRowPerOutput, kNeurons, width), p.vector);
    const auto dense = p.Dense();
    for (int64_t n = 0; n < kNeurons; ++n) {
      double sum = 0;
      for (int64_t i = 0; i < width; ++i) sum += double{y[i]} * gate[n * width + i];
      EXPECT_NEAR(dense[n], a[n] * std::max(sum, 0.0), 1e-5);
    }
  }
}

TEST(AccumulateRows, AddsTheWeightedRows) {
  for (const int64_t width : kSizes) {
    const auto p = RandomActive(40, 1), rows = Random(40 * width, 2);
    std::vector<float> y(width, 0.5f);
    AccumulateRows(OwnedSparse::Of(p).vector, F32Matrix(rows, Layout::kRowPerOutput, 40, width), y);
    for (int64_t i = 0; i < width; ++i) {
      double sum = 0.5;
      for (int64_t n = 0; n < 40; ++n) sum += double{p[n]} * rows[n * width + i];
      EXPECT_NEAR(y[i], sum, 1e-5);
    }
  }
}

TEST(KernelsDeathTest, SizesThatDoNotFitAbort) {
  std::vector<float> x(4), w(12), y(2);
  EXPECT_DEATH(MatVec(x, F32Matrix(w, Layout::kRowPerInput, 4, 3), y), "columns");
  EXPECT_DEATH(F32Matrix(w, Layout::kRowPerInput, 4, 4), "rows \\* columns");
}

}  // namespace
}  // namespace bdh::kernels
