// Each kernel on the sizes of one segment of the default shape (2048 neurons, width 256, a fifth of the
// neurons active), for every instruction set of this machine, the scalar definition included. `madds` are
// multiplications and additions a second.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <vector>

#include "bdh/kernels/kernels.h"

namespace bdh::kernels {
namespace {

constexpr int64_t kNeurons = 2048, kWidth = 256, kBlocks = kNeurons / kLanes, kTokens = 32;

std::vector<float> Random(int64_t size, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(generator);
  return values;
}

struct Key {
  explicit Key(int seed) : masks(kBlocks), values(kNeurons + kPackSlack), dense(kNeurons) {
    std::vector<float> active = Random(kNeurons, seed), turns(kNeurons);
    for (float& value : active) value = std::max(value - 0.84f, 0.0f);  // A fifth of them.
    const std::vector<float> frequencies(kNeurons / 2, 0.01f);
    Scalar().phases(PhaseMode::kPrecise, seed, frequencies.data(), kNeurons / 2, turns.data());
    count = Scalar().rope(active.data(), turns.data(), kBlocks, dense.data(), masks.data(), values.data());
  }
  std::vector<uint16_t> masks;
  std::vector<float> values, dense;
  int64_t count;
};

struct Activations {
  explicit Activations(int seed) : masks(kBlocks), values(kNeurons + kPackSlack) {
    std::vector<float> active = Random(kNeurons, seed);
    for (float& value : active) value = std::max(value - 0.84f, 0.0f);
    count = Scalar().pack(active.data(), kBlocks, masks.data(), values.data());
  }
  std::vector<uint16_t> masks;
  std::vector<float> values;
  int64_t count;
};

struct Data {
  Data() : x(Random(64 * kWidth, 1)), rho(Random(kNeurons * kWidth, 2)), y(64 * kWidth) {
    for (int t = 0; t < kTokens; ++t) keys.emplace_back(t + 1);
    for (int t = 0; t < kTokens; ++t) {
      factors.push_back({{keys[t].masks.data(), keys[t].values.data()}, x.data() + t * kWidth});
    }
  }
  std::vector<float> x, rho, y;
  std::vector<Key> keys;
  std::vector<Factor> factors;
};

struct Weights {
  Weights(DType dtype, Layout layout, int64_t rows, int64_t columns)
      : bytes(PackedBytes(dtype, layout, rows, columns)),
        matrix(
            Pack(Random(rows * columns, 3).data(), rows, columns, columns, 1, dtype, layout, bytes.data())) {}
  std::vector<char> bytes;
  WeightMatrix matrix;
};

void Report(benchmark::State& bench, int64_t madds) {
  bench.counters["madds"] =
      benchmark::Counter(static_cast<double>(madds * bench.iterations()), benchmark::Counter::kIsRate);
}

void Product(benchmark::State& bench, const Kernels* kernels, DType dtype, int64_t rows) {
  const Weights weights(dtype, Layout::kPanels, kWidth, kNeurons);
  Data data;
  std::vector<float> y(rows * kNeurons);
  for (auto _ : bench) {
    kernels->product(data.x.data(), rows, kWidth, weights.matrix, true, y.data(), kNeurons);
    benchmark::ClobberMemory();
  }
  Report(bench, rows * kWidth * kNeurons);
}

void RhoRead(benchmark::State& bench, const Kernels* kernels) {
  Data data;
  for (auto _ : bench) {
    kernels->rho_read(data.rho.data(), kWidth, data.factors[0].key, kBlocks, data.y.data());
    benchmark::ClobberMemory();
  }
  Report(bench, data.keys[0].count * kWidth);
}

void RhoReadShared(benchmark::State& bench, const Kernels* kernels) {
  Data data;
  for (auto _ : bench) {
    kernels->rho_read_shared(data.rho.data(), kWidth, data.factors, kBlocks, data.y.data(), kWidth);
    benchmark::ClobberMemory();
  }
  Report(bench, kTokens * data.keys[0].count * kWidth);
}

void Fold(benchmark::State& bench, const Kernels* kernels) {
  Data data;
  for (auto _ : bench) {
    kernels->fold(data.rho.data(), data.rho.data(), kWidth, data.factors, kBlocks);
    benchmark::ClobberMemory();
  }
  Report(bench, kTokens * data.keys[0].count * kWidth);
}

void TailRead(benchmark::State& bench, const Kernels* kernels) {
  Data data;
  for (auto _ : bench) {
    kernels->tail_read(data.keys[0].dense.data(), data.factors, kBlocks, kWidth, data.y.data());
    benchmark::ClobberMemory();
  }
  Report(bench, kTokens * (kNeurons + kWidth));
}

void GateDecode(benchmark::State& bench, const Kernels* kernels, DType dtype) {
  const Weights gate(dtype, Layout::kRows, kNeurons, kWidth), decoder(dtype, Layout::kRows, kNeurons, kWidth);
  Data data;
  int64_t passed = 0;
  for (auto _ : bench) {
    passed = kernels->gate_decode(data.factors[0].key, kBlocks, data.x.data(), gate.matrix, decoder.matrix,
                                  data.y.data());
    benchmark::ClobberMemory();
  }
  Report(bench, (data.keys[0].count + passed) * kWidth);
}

// A pass of a prompt: y lies as in the engine, where the heads of a token lie together.
void GateDecodeShared(benchmark::State& bench, const Kernels* kernels, DType dtype) {
  constexpr int64_t kYStride = 4 * kWidth;
  const Weights gate(dtype, Layout::kRows, kNeurons, kWidth), decoder(dtype, Layout::kRows, kNeurons, kWidth);
  const std::vector<float> y = Random(kMaxTokens * kYStride, 4);
  std::vector<float> written(kMaxTokens * kWidth);
  std::vector<Activations> activations;
  int64_t active = 0, passed = 0;
  for (int t = 0; t < kMaxTokens; ++t) active += activations.emplace_back(t + 1).count;
  for (auto _ : bench) {
    std::vector<GateRow> rows;
    for (int64_t t = 0; t < kMaxTokens; ++t) {
      rows.push_back({{activations[t].masks.data(), activations[t].values.data()},
                      y.data() + t * kYStride,
                      written.data() + t * kWidth,
                      0});
    }
    kernels->gate_decode_shared(rows, kBlocks, gate.matrix, decoder.matrix);
    passed = 0;
    for (const GateRow& row : rows) passed += row.passed;
    benchmark::ClobberMemory();
  }
  Report(bench, (active + passed) * kWidth);
}

void Phases(benchmark::State& bench, const Kernels* kernels, PhaseMode mode) {
  const std::vector<float> frequencies(kNeurons / 2, 0.01f);
  std::vector<float> turns(kNeurons);
  for (auto _ : bench) {
    kernels->phases(mode, 12345, frequencies.data(), kNeurons / 2, turns.data());
    benchmark::ClobberMemory();
  }
}

void RegisterAll() {
  for (const Kernels* kernels : All()) {
    const std::string on = std::string("/") + kernels->name;
    const auto add = [&](const std::string& name, auto run) {
      benchmark::RegisterBenchmark((name + on).c_str(), run);
    };
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      const std::string type = dtype == DType::kF32 ? "_f32" : "_bf16";
      for (const int64_t rows : {1, 8, 64}) {
        add("product" + type + "_rows" + std::to_string(rows),
            [=](benchmark::State& bench) { Product(bench, kernels, dtype, rows); });
      }
      add("gate_decode" + type, [=](benchmark::State& bench) { GateDecode(bench, kernels, dtype); });
      add("gate_decode_shared" + type,
          [=](benchmark::State& bench) { GateDecodeShared(bench, kernels, dtype); });
    }
    add("rho_read", [=](benchmark::State& bench) { RhoRead(bench, kernels); });
    add("rho_read_shared", [=](benchmark::State& bench) { RhoReadShared(bench, kernels); });
    add("fold", [=](benchmark::State& bench) { Fold(bench, kernels); });
    add("tail_read", [=](benchmark::State& bench) { TailRead(bench, kernels); });
    add("phases_reference", [=](benchmark::State& bench) { Phases(bench, kernels, PhaseMode::kReference); });
    add("phases_precise", [=](benchmark::State& bench) { Phases(bench, kernels, PhaseMode::kPrecise); });
  }
}

}  // namespace
}  // namespace bdh::kernels

int main(int argc, char** argv) {
  bdh::kernels::RegisterAll();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
