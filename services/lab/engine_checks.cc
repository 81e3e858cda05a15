#include "services/lab/engine_checks.h"

#include <memory>
#include <span>
#include <stop_token>

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

// Every row of idx, one token a step.
absl::StatusOr<Check> CheckLogits(const engine::BdhModel& model, const GoldenFile& golden) {
  const int64_t rows = golden.tokens.shape[0], length = golden.tokens.shape[1];
  const size_t vocabulary = golden.config.vocab_size;
  std::vector<float> logits(golden.logits->size());
  for (int64_t row = 0; row < rows; ++row) {
    BDH_ASSIGN_OR_RETURN(const auto state, model.NewState());
    for (int64_t i = row * length; i < (row + 1) * length; ++i) {
      const auto token = static_cast<int32_t>(golden.tokens.values[i]);
      BDH_RETURN_IF_ERROR(
          model.StepOne(*state, token, std::span(logits).subspan(i * vocabulary, vocabulary)));
    }
  }
  return CompareRelative("engine logits", logits, *golden.logits, kLogitsTolerance, "logit");
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
  }
  if (!golden.greedy.empty()) {
    BDH_ASSIGN_OR_RETURN(Check check, CheckGreedy(*model, golden));
    checks.push_back(std::move(check));
  }
  return checks;
}

}  // namespace bdh::lab
