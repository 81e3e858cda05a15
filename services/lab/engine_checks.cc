#include "services/lab/engine_checks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <span>
#include <stop_token>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/engine/bdh_model.h"
#include "bdh/engine/sampler.h"
#include "services/lab/tolerance.h"

namespace bdh::lab {
namespace {

absl::StatusOr<std::shared_ptr<const engine::BdhModel>> LoadModel(const GoldenFile& golden) {
  std::vector<engine::NamedTensor> tensors;
  for (const auto& [name, weight] : golden.weights) tensors.push_back({name, weight.shape, weight.values});
  const auto neurons = static_cast<int64_t>(golden.frequencies.size());
  tensors.push_back({spec::kFrequenciesName, {neurons}, golden.frequencies});
  return engine::BdhModel::Create(golden.config, tensors);
}

// Every row of idx: read in pieces of `piece` tokens, whose last logits are kept, up to `prefilled`; the rest
// one token a step.
absl::Status Run(const engine::BdhModel& model, const GoldenFile& golden, int64_t piece, int64_t prefilled,
                 std::vector<float>& logits) {
  const int64_t rows = golden.tokens.shape[0], length = golden.tokens.shape[1];
  const size_t vocabulary = golden.config.vocab_size;
  const std::vector<int32_t> tokens(golden.tokens.values.begin(), golden.tokens.values.end());
  for (int64_t row = 0; row < rows; ++row) {
    BDH_ASSIGN_OR_RETURN(const auto state, model.NewState());
    for (int64_t i = 0; i < length;) {
      const int64_t count = i < prefilled ? std::min(piece, prefilled - i) : 1;
      const int64_t at = row * length + i;
      const auto wanted = std::span(logits).subspan((at + count - 1) * vocabulary, vocabulary);
      BDH_RETURN_IF_ERROR(model.Prefill(*state, std::span(tokens).subspan(at, count), wanted, {}));
      i += count;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Check> CheckLogits(const engine::BdhModel& model, const GoldenFile& golden) {
  std::vector<float> logits(golden.logits->size());
  BDH_RETURN_IF_ERROR(Run(model, golden, 1, 0, logits));
  return CompareRelative("engine logits", logits, *golden.logits, kLogitsTolerance, "logit");
}

// How many logits differ in any bit from those of one token a step, where the pieces leave some.
absl::StatusOr<Check> CheckPieces(const engine::BdhModel& model, const GoldenFile& golden, int64_t piece) {
  const float missing = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> steps(golden.logits->size()), pieces(golden.logits->size(), missing);
  BDH_RETURN_IF_ERROR(Run(model, golden, 1, 0, steps));
  const int64_t length = golden.tokens.shape[1];
  const bool all = piece == 0;
  BDH_RETURN_IF_ERROR(Run(model, golden, all ? length : piece, all ? length : length * 3 / 4, pieces));
  int64_t compared = 0, differ = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (std::isnan(pieces[i])) continue;
    ++compared;
    differ += std::bit_cast<uint32_t>(pieces[i]) != std::bit_cast<uint32_t>(steps[i]);
  }
  return Check{.name = all ? "engine prefill at once" : absl::StrFormat("engine prefill by %d", piece),
               .difference = static_cast<double>(differ),
               .tolerance = 0,
               .note = absl::StrFormat("of %d logits, how many have other bits than steps", compared)};
}

// As a server generates: the prompt at once, then a step and a greedy draw for each token.
absl::StatusOr<Check> CheckGreedy(const engine::BdhModel& model, const GoldenFile& golden) {
  std::vector<int64_t> tokens(golden.greedy.begin(), golden.greedy.begin() + golden.prompt_length);
  const std::vector<int32_t> prompt(tokens.begin(), tokens.end());
  std::vector<float> logits(golden.config.vocab_size);
  engine::Sampler sampler({.temperature = 0});
  BDH_ASSIGN_OR_RETURN(const auto state, model.NewState());
  BDH_RETURN_IF_ERROR(model.Prefill(*state, prompt, logits, std::stop_token()));
  while (true) {
    BDH_ASSIGN_OR_RETURN(const int32_t next, sampler.Next(logits));
    tokens.push_back(next);
    if (tokens.size() == golden.greedy.size()) break;
    BDH_RETURN_IF_ERROR(model.StepOne(*state, next, logits));
  }
  return CompareTokens("engine greedy tokens", tokens, golden.greedy, golden.prompt_length);
}

}  // namespace

absl::StatusOr<std::vector<Check>> CheckEngine(const GoldenFile& golden) {
  std::vector<Check> checks;
  if (!golden.logits && golden.greedy.empty()) return checks;
  BDH_ASSIGN_OR_RETURN(const auto model, LoadModel(golden));
  if (golden.logits) {
    BDH_ASSIGN_OR_RETURN(Check check, CheckLogits(*model, golden));
    checks.push_back(std::move(check));
    for (const int64_t piece : {1, 7, 64, 0}) {
      BDH_ASSIGN_OR_RETURN(Check pieces, CheckPieces(*model, golden, piece));
      checks.push_back(std::move(pieces));
    }
  }
  if (!golden.greedy.empty()) {
    BDH_ASSIGN_OR_RETURN(Check check, CheckGreedy(*model, golden));
    checks.push_back(std::move(check));
  }
  return checks;
}

}  // namespace bdh::lab
