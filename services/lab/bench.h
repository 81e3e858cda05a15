// `bdh-lab bench`: the engine beside the reference's way of doing the same, in one process and one run.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/lab/bench_model.h"

namespace bdh::lab {

struct BenchOptions {
  std::string weights;  // A file; empty: random ones.
  spec::ModelConfig config;
  double density = 0.2;
  std::string dtype = "f32";
  int threads = 0;  // 0: one a core.
  std::vector<int64_t> contexts;
  int64_t tokens = 64;          // Decoded at each context, in every round.
  int rounds = 3;               // The engine and the oracle take turns; the best round of each counts.
  int batch = 1;                // Sessions decoded together.
  int64_t oracle_up_to = 2048;  // Longer contexts are not asked of the oracle.
};

// Seconds of one forward pass over these tokens, which is what the reference does for every token it
// generates.
using Oracle = std::function<double(const std::vector<int32_t>& tokens)>;
using MakeOracle = std::function<Oracle(const BenchModel& model, int threads)>;

using Rows = std::vector<nlohmann::ordered_json>;

// One row a context. docs/benchmarks/decode.md says what each field is.
absl::StatusOr<Rows> BenchDecode(const BenchOptions& options, const MakeOracle& make_oracle);
absl::StatusOr<Rows> BenchPrefill(const BenchOptions& options, const MakeOracle& make_oracle);
absl::StatusOr<Rows> BenchFork(const BenchOptions& options);
// One session on two threads beside two models on one thread each.
absl::StatusOr<Rows> BenchThreads(const BenchOptions& options);

// An aligned table of rows with the same fields.
std::string ToTable(const Rows& rows);

}  // namespace bdh::lab
