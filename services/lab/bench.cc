#include "services/lab/bench.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bdh/base/cores.h"
#include "bdh/base/status_macros.h"
#include "bdh/engine/bdh_model.h"

namespace bdh::lab {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;
using engine::BdhModel;
using engine::DecodeState;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string ShapeName(const spec::ModelConfig& config) {
  return absl::StrFormat("L%d-D%d-H%d-M%d-V%d", config.n_layer, config.n_embd, config.n_head,
                         config.mlp_internal_dim_multiplier, config.vocab_size);
}

// What memory gives when `threads` threads read it from end to end: the best of a few passes over more than
// any cache holds.
double BandwidthGbS(int threads) {
  constexpr int64_t kRowsEach = int64_t{1} << 18, kWidth = 128;  // 128 MiB a thread.
  static std::vector<float> memory;
  memory.resize(threads * kRowsEach * kWidth, 1.0f);
  const std::vector<float> ones(kRowsEach, 1.0f);
  double best = 0;
  for (int pass = 0; pass < 4; ++pass) {
    const auto start = Clock::now();
    {
      std::vector<std::jthread> readers;
      for (int i = 0; i < threads; ++i) {
        readers.emplace_back([&, i] {
          std::vector<float> sums(kWidth);
          kernels::Best().weighted_rows(ones.data(), kRowsEach, memory.data() + i * kRowsEach * kWidth,
                                        kWidth, kWidth, sums.data());
          std::atomic_signal_fence(std::memory_order_seq_cst);
        });
      }
    }
    best = std::max(best, static_cast<double>(memory.size() * sizeof(float)) / SecondsSince(start) / 1e9);
  }
  return best;
}

// Bytes that a token must move, on average over a grid's step, by the definition of the model: weights that
// its neurons need, and rho rows or factors that they read and write. Split by whether a batch shares them.
struct Traffic {
  double shared = 0;  // The dense product's weights.
  double own = 0;     // Rows of weights, which other sessions need other ones of, and the state.
};

Traffic TrafficOf(const BdhModel& model, const engine::Density& density, int64_t context) {
  const spec::ModelConfig& config = model.config();
  const engine::BdhOptions& options = model.options();
  const double element = options.dtype == kernels::DType::kF32 ? 4 : 2;
  const auto layers = static_cast<double>(config.n_layer), width = static_cast<double>(config.n_embd);
  const double neurons = layers * static_cast<double>(config.neurons());
  // Those whose activations the token alone decides, which are kept.
  const double known = model.keeps_first_layer() ? static_cast<double>(config.neurons()) : 0;
  Traffic traffic;
  traffic.shared = (neurons - known) * width * element + width * config.vocab_size * element;
  traffic.own = known * (density.active * 4 + 0.125);
  traffic.own += neurons * (density.active + density.passed) * width * element;
  const double factor = neurons * (density.pairs * 4 + 0.125) + layers * width * 4;
  if (context < options.dense_from) {
    traffic.own += static_cast<double>(context + 1) * factor;
    return traffic;
  }
  const double grid = options.grid;
  const double touched =
      1 - std::pow(1 - density.pairs, grid);                // Rows of rho that a step of the grid writes.
  traffic.own += neurons * density.pairs * width * 4;       // Read.
  traffic.own += 2 * neurons * touched * width * 4 / grid;  // Folded: read and written.
  traffic.own += (grid / 2 + 2) * factor;                   // The tail, and what is added to it.
  return traffic;
}

std::vector<int32_t> RandomTokens(int64_t count, int32_t vocabulary, uint64_t seed) {
  std::vector<int32_t> tokens(count);
  uint64_t x = seed * 2654435761u + 1;
  for (int32_t& token : tokens) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    token = static_cast<int32_t>((x >> 33) % vocabulary);
  }
  return tokens;
}

struct Bench {
  BenchModel weights;
  std::shared_ptr<const BdhModel> model;
  int threads = 1;

  std::vector<int32_t> Tokens(int64_t count, uint64_t seed = 1) const {
    return RandomTokens(count, model->vocab_size(), seed);
  }
};

absl::StatusOr<kernels::DType> DTypeOf(const std::string& name) {
  if (name == "f32") return kernels::DType::kF32;
  if (name == "bf16") return kernels::DType::kBf16;
  return absl::InvalidArgumentError(absl::StrFormat("dtype is %s; want f32 or bf16", name));
}

absl::StatusOr<std::shared_ptr<const BdhModel>> MakeModel(const BenchModel& weights,
                                                          const BenchOptions& options, int threads) {
  BDH_ASSIGN_OR_RETURN(const kernels::DType dtype, DTypeOf(options.dtype));
  return BdhModel::Create(weights.config, weights.Tensors(),
                          {.dtype = dtype, .threads = threads, .keep_bytes = engine::kDefaultKeepBytes});
}

absl::StatusOr<Bench> Start(const BenchOptions& options) {
  Bench bench;
  if (options.weights.empty()) {
    BDH_ASSIGN_OR_RETURN(bench.weights, RandomModel(options.config, options.density));
  } else {
    BDH_ASSIGN_OR_RETURN(bench.weights, ModelOfFile(options.weights));
  }
  bench.threads = ThreadCount(options.threads);
  BDH_ASSIGN_OR_RETURN(bench.model, MakeModel(bench.weights, options, bench.threads));
  return bench;
}

Json RowHead(const BdhModel& model, const BenchOptions& options, int64_t context, int threads) {
  return {{"shape", ShapeName(model.config())},
          {"dtype", options.dtype},
          {"context", context},
          {"threads", threads},
          {"kernels", model.options().kernels->name}};
}

// Brings a session to `position`, or back to it.
absl::Status MoveTo(const Bench& bench, DecodeState& state, int64_t position) {
  if (state.position() > position) BDH_RETURN_IF_ERROR(state.Truncate(position));
  if (state.position() == position) return absl::OkStatus();
  const auto tokens = bench.Tokens(position);
  return bench.model->Prefill(state, std::span(tokens).subspan(state.position()), {}, {});
}

using States = std::vector<std::unique_ptr<DecodeState>>;

// Seconds a step of all states takes together, over `steps` of them.
absl::StatusOr<double> TimeSteps(const BdhModel& model, const States& states, int64_t steps) {
  std::vector<std::vector<float>> logits(states.size(), std::vector<float>(model.vocab_size()));
  const auto tokens = RandomTokens(steps, model.vocab_size(), 5);
  const auto start = Clock::now();
  for (const int32_t token : tokens) {
    std::vector<engine::DecodeModel::StepInput> inputs;
    for (size_t i = 0; i < states.size(); ++i) inputs.push_back({states[i].get(), token, logits[i]});
    BDH_RETURN_IF_ERROR(model.Step(inputs));
  }
  return SecondsSince(start) / static_cast<double>(steps);
}

// What is measured at one context, and the best of all rounds.
struct DecodePoint {
  int64_t context;
  States states;
  double step = std::numeric_limits<double>::infinity();
  double one_by_one = step;
  double oracle = step;
  double bandwidth = 0;
};

absl::StatusOr<States> Forks(const States& states) {
  States forks;
  for (const auto& state : states) {
    BDH_ASSIGN_OR_RETURN(auto fork, state->Fork());
    forks.push_back(std::move(fork));
  }
  return forks;
}

// States at every context; a text is read once, and left behind where it passes a context.
absl::StatusOr<std::vector<DecodePoint>> PointsOf(const Bench& bench, const BenchOptions& options) {
  States walkers;
  for (int i = 0; i < options.batch; ++i) {
    BDH_ASSIGN_OR_RETURN(auto state, bench.model->NewState());
    walkers.push_back(std::move(state));
  }
  std::vector<DecodePoint> points;
  for (const int64_t context : options.contexts) {
    for (auto& walker : walkers) BDH_RETURN_IF_ERROR(MoveTo(bench, *walker, context));
    BDH_ASSIGN_OR_RETURN(States states, Forks(walkers));
    points.push_back({.context = context, .states = std::move(states)});
  }
  return points;
}

absl::Status MeasureDecode(const Bench& bench, const BenchOptions& options, const Oracle& oracle,
                           bool is_first_round, DecodePoint& point) {
  const BdhModel& model = *bench.model;
  point.bandwidth = std::max(point.bandwidth, BandwidthGbS(bench.threads));
  BDH_ASSIGN_OR_RETURN(States forks, Forks(point.states));
  // A session that shares its rho copies it at the first line of the grid; that is the fork's price, not
  // the step's.
  if (point.context >= model.options().dense_from) {
    BDH_RETURN_IF_ERROR(TimeSteps(model, forks, model.options().grid).status());
  }
  BDH_ASSIGN_OR_RETURN(const double step, TimeSteps(model, forks, options.tokens));
  point.step = std::min(point.step, step);
  if (options.batch > 1) {
    double alone = 0;
    for (auto& fork : forks) {
      States one;
      one.push_back(std::move(fork));
      BDH_ASSIGN_OR_RETURN(const double seconds, TimeSteps(model, one, model.options().grid));
      alone += seconds;
    }
    point.one_by_one = std::min(point.one_by_one, alone);
  }
  // The reference draws the next token from a pass over all of them, the new one included.
  if (oracle && point.context <= options.oracle_up_to && (is_first_round || point.oracle < 2)) {
    point.oracle = std::min(point.oracle, oracle(bench.Tokens(point.context)));
  }
  return absl::OkStatus();
}

Json DecodeRow(const Bench& bench, const BenchOptions& options, const DecodePoint& point) {
  const BdhModel& model = *bench.model;
  const engine::Density density = model.DensityOf(*point.states[0]);
  const Traffic traffic = TrafficOf(model, density, point.context);
  const double batch = static_cast<double>(point.states.size());
  const double bytes = traffic.shared / batch + traffic.own;
  const bool asked_oracle = std::isfinite(point.oracle);
  Json row = RowHead(model, options, point.context, bench.threads);
  row["batch"] = point.states.size();
  row["tok_s"] = batch / point.step;
  row["ms_per_token"] = 1e3 * point.step / batch;
  row["bytes_per_token"] = std::llround(bytes);
  row["measured_bandwidth_gb_s"] = point.bandwidth;
  row["roofline_fraction"] = bytes / (point.bandwidth * 1e9) / (point.step / batch);
  row["oracle_tok_s"] = asked_oracle ? Json(1 / point.oracle) : Json();
  row["ratio"] = asked_oracle ? Json(point.oracle / point.step) : Json();
  if (options.batch > 1) row["one_by_one_tok_s"] = batch / point.one_by_one;
  row["density_x"] = density.active;
  row["density_pair"] = density.pairs;
  row["density_p"] = density.passed;
  return row;
}

}  // namespace

// Contexts take turns within a round, so that what else the machine does in the meantime touches all alike.
absl::StatusOr<Rows> BenchDecode(const BenchOptions& options, const MakeOracle& make_oracle) {
  BDH_ASSIGN_OR_RETURN(const Bench bench, Start(options));
  const Oracle oracle =
      make_oracle && options.batch == 1 ? make_oracle(bench.weights, bench.threads) : Oracle();
  BDH_ASSIGN_OR_RETURN(std::vector<DecodePoint> points, PointsOf(bench, options));
  for (int round = 0; round < options.rounds; ++round) {
    for (DecodePoint& point : points) {
      BDH_RETURN_IF_ERROR(MeasureDecode(bench, options, oracle, round == 0, point));
    }
  }
  Rows rows;
  for (const DecodePoint& point : points) rows.push_back(DecodeRow(bench, options, point));
  return rows;
}

absl::StatusOr<Rows> BenchPrefill(const BenchOptions& options, const MakeOracle& make_oracle) {
  BDH_ASSIGN_OR_RETURN(const Bench bench, Start(options));
  const Oracle oracle = make_oracle ? make_oracle(bench.weights, bench.threads) : Oracle();
  Rows rows;
  std::vector<float> logits(bench.model->vocab_size());
  for (const int64_t context : options.contexts) {
    const auto tokens = bench.Tokens(context);
    const bool asks_oracle = oracle && context <= options.oracle_up_to;
    double engine_seconds = std::numeric_limits<double>::infinity(), oracle_seconds = engine_seconds;
    for (int round = 0; round < options.rounds; ++round) {
      BDH_ASSIGN_OR_RETURN(const auto state, bench.model->NewState());
      const auto start = Clock::now();
      BDH_RETURN_IF_ERROR(bench.model->Prefill(*state, tokens, logits, {}));
      engine_seconds = std::min(engine_seconds, SecondsSince(start));
      if (asks_oracle) oracle_seconds = std::min(oracle_seconds, oracle(tokens));
    }
    Json row = RowHead(*bench.model, options, context, bench.threads);
    row["seconds"] = engine_seconds;
    row["tok_s"] = static_cast<double>(context) / engine_seconds;
    row["ms_per_token"] = 1e3 * engine_seconds / static_cast<double>(context);
    row["oracle_seconds"] = asks_oracle ? Json(oracle_seconds) : Json();
    row["ratio"] = asks_oracle ? Json(oracle_seconds / engine_seconds) : Json();
    rows.push_back(std::move(row));
  }
  return rows;
}

absl::StatusOr<Rows> BenchFork(const BenchOptions& options) {
  BDH_ASSIGN_OR_RETURN(const Bench bench, Start(options));
  const BdhModel& model = *bench.model;
  Rows rows;
  BDH_ASSIGN_OR_RETURN(const auto state, model.NewState());
  std::vector<float> logits(model.vocab_size());
  for (const int64_t context : options.contexts) {
    BDH_RETURN_IF_ERROR(MoveTo(bench, *state, context));
    std::vector<double> seconds;
    for (int i = 0; i < 101; ++i) {
      const auto start = Clock::now();
      BDH_ASSIGN_OR_RETURN(const auto fork, state->Fork());
      seconds.push_back(SecondsSince(start));
    }
    std::sort(seconds.begin(), seconds.end());
    const auto plan = model.PlanRest(context);
    Json row = RowHead(model, options, context, bench.threads);
    row["fork_ms"] = 1e3 * seconds[seconds.size() / 2];
    row["slowest_fork_ms"] = 1e3 * seconds.back();
    row["state_mib"] = static_cast<double>(state->memory_bytes()) / (1 << 20);
    row["rest_form"] = plan.best == engine::StateForm::kTokens    ? "tokens"
                       : plan.best == engine::StateForm::kFactors ? "factors"
                                                                  : "dense";
    rows.push_back(std::move(row));
  }
  return rows;
}

absl::StatusOr<Rows> BenchThreads(const BenchOptions& options) {
  BDH_ASSIGN_OR_RETURN(const Bench bench, Start(options));
  const int threads = bench.threads;
  std::vector<std::shared_ptr<const BdhModel>> alone;
  for (int i = 0; i < threads; ++i) {
    BDH_ASSIGN_OR_RETURN(auto model, MakeModel(bench.weights, options, 1));
    alone.push_back(std::move(model));
  }
  const auto session = [&](const BdhModel& model, int64_t context) -> absl::StatusOr<States> {
    States states;
    BDH_ASSIGN_OR_RETURN(auto state, model.NewState());
    states.push_back(std::move(state));
    BDH_RETURN_IF_ERROR(model.Prefill(*states[0], bench.Tokens(context), {}, {}));
    return states;
  };
  Rows rows;
  for (const int64_t context : options.contexts) {
    BDH_ASSIGN_OR_RETURN(const States together, session(*bench.model, context));
    std::vector<States> apart;
    for (const auto& model : alone) {
      BDH_ASSIGN_OR_RETURN(States states, session(*model, context));
      apart.push_back(std::move(states));
    }
    double best_together = 0, best_apart = 0, best_one = 0;
    for (int round = 0; round < options.rounds; ++round) {
      BDH_ASSIGN_OR_RETURN(const double seconds, TimeSteps(*bench.model, together, options.tokens));
      best_together = std::max(best_together, 1 / seconds);
      BDH_ASSIGN_OR_RETURN(const double one, TimeSteps(*alone[0], apart[0], options.tokens));
      best_one = std::max(best_one, 1 / one);
      std::vector<double> each(threads);
      {
        std::vector<std::jthread> users;
        for (int i = 0; i < threads; ++i) {
          users.emplace_back([&, i] {
            const auto step = TimeSteps(*alone[i], apart[i], options.tokens);
            each[i] = step.ok() ? 1 / *step : 0;
          });
        }
      }
      best_apart = std::max(best_apart, std::accumulate(each.begin(), each.end(), 0.0));
    }
    Json row = RowHead(*bench.model, options, context, threads);
    row["tok_s"] = best_together;
    row["one_thread_tok_s"] = best_one;
    row["apart_tok_s"] = best_apart;
    row["scaling"] = best_together / best_apart;
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string ToTable(const Rows& rows) {
  if (rows.empty()) return "";
  const auto text = [](const Json& value) -> std::string {
    if (value.is_null()) return "-";
    if (value.is_string()) return value.get<std::string>();
    if (value.is_number_float()) return absl::StrFormat("%.4g", value.get<double>());
    return value.dump();
  };
  std::string table;
  for (const auto& [name, first] : rows[0].items()) {
    absl::StrAppendFormat(&table, "%-24s", name);
    for (const Json& row : rows) absl::StrAppendFormat(&table, " %16s", text(row.at(name)));
    table += "\n";
  }
  return table;
}

}  // namespace bdh::lab
