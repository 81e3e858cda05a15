// One decode step against what the reference does for one token: a forward pass over the whole prefix. Both
// on the same random weights, in turn, in one process; `ratio` is how many times faster the engine is.
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <chrono>
#include <vector>

#include "bdh/base/log.h"
#include "bdh/engine/bdh_model.h"
#include "bdh/model/bdh.h"

namespace bdh {
namespace {

using Clock = std::chrono::steady_clock;

// The shape of configs/quickstart.yaml.
constexpr spec::ModelConfig kConfig{.n_layer = 4,
                                    .n_embd = 96,
                                    .n_head = 4,
                                    .mlp_internal_dim_multiplier = 16,
                                    .vocab_size = 256,
                                    .dropout = 0};

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::shared_ptr<const engine::BdhModel> EngineOf(const model::Bdh& oracle) {
  std::vector<engine::NamedTensor> tensors;
  for (const auto& weight : oracle->named_parameters()) {
    const torch::Tensor& value = weight.value();
    tensors.push_back(
        {weight.key(), value.sizes().vec(), {value.data_ptr<float>(), static_cast<size_t>(value.numel())}});
  }
  auto engine = engine::BdhModel::Create(kConfig, tensors);
  BDH_CHECK(engine.ok()) << engine.status();
  return *engine;
}

void BM_DecodeStep(benchmark::State& bench) {
  torch::NoGradGuard no_gradients;
  torch::manual_seed(1);
  const int64_t context = bench.range(0);
  model::Bdh oracle(kConfig);
  oracle->eval();
  const auto engine = EngineOf(oracle);
  const torch::Tensor prefix = torch::randint(kConfig.vocab_size, {1, context}, torch::kInt64);
  const std::vector<int32_t> tokens(prefix.data_ptr<int64_t>(), prefix.data_ptr<int64_t>() + context);
  std::vector<float> logits(kConfig.vocab_size);
  auto state = engine->NewState();
  BDH_CHECK(state.ok() && engine->Prefill(**state, tokens, logits, {}).ok());

  double engine_seconds = 0, oracle_seconds = 0;
  for (auto _ : bench) {
    auto start = Clock::now();
    BDH_CHECK(engine->StepOne(**state, tokens[0], logits).ok());
    const double step = SecondsSince(start);
    start = Clock::now();
    benchmark::DoNotOptimize(oracle->forward(prefix));
    oracle_seconds += SecondsSince(start);
    engine_seconds += step;
    bench.SetIterationTime(step);
  }
  bench.counters["tok_s"] = static_cast<double>(bench.iterations()) / engine_seconds;
  bench.counters["oracle_tok_s"] = static_cast<double>(bench.iterations()) / oracle_seconds;
  bench.counters["ratio"] = oracle_seconds / engine_seconds;
}
BENCHMARK(BM_DecodeStep)
    ->ArgName("context")
    ->Arg(64)
    ->Arg(512)
    ->Arg(2048)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace bdh

BENCHMARK_MAIN();
