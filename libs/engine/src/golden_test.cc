// Proves that the engine computes what the reference computes: its logits at every position, its loss and its
// greedy tokens, on models whose numbers the reference wrote down (tests/golden).
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "bdh/engine/bdh_model.h"
#include "bdh/engine/sampler.h"
#include "bdh/spec/model_config_json.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::engine {
namespace {

constexpr double kTolerance = 2e-5;  // Of the largest logit.
constexpr int64_t kGreedyPrompt = 8;

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto file =
        tensorfile::SafetensorsFile::Open(BDH_SOURCE_DIR "/tests/golden/" + GetParam() + ".safetensors");
    BDH_ASSERT_OK(file.status());
    file_ = std::make_unique<tensorfile::SafetensorsFile>(*std::move(file));
    BDH_ASSERT_OK_AND_ASSIGN(const auto config, spec::ModelConfigFromJson(file_->metadata().at("config")));
    std::vector<std::vector<float>> values;
    std::vector<NamedTensor> tensors;
    for (const auto& weight : spec::Weights(config)) values.push_back(Floats("weight." + weight.name));
    const auto specs = spec::Weights(config);
    for (size_t i = 0; i < specs.size(); ++i) tensors.push_back({specs[i].name, specs[i].shape, values[i]});
    BDH_ASSERT_OK_AND_ASSIGN(model_, BdhModel::Create(config, tensors));
  }

  std::vector<float> Floats(const std::string& name) {
    auto values = file_->Floats(name);
    EXPECT_TRUE(values.ok()) << values.status();
    return *std::move(values);
  }
  std::vector<int32_t> Tokens(const std::string& name) {
    auto values = file_->Integers(name);
    EXPECT_TRUE(values.ok()) << values.status();
    return {values->begin(), values->end()};
  }
  int64_t rows() { return file_->Find("idx")->shape[0]; }
  int64_t length() { return file_->Find("idx")->shape[1]; }

  // Logits of one sequence at every position from `prefilled` - 1 on.
  std::vector<float> Run(std::span<const int32_t> tokens, int64_t prefilled) {
    const int64_t vocabulary = model_->vocab_size();
    std::vector<float> logits((tokens.size() - prefilled + 1) * vocabulary);
    auto state = model_->NewState();
    EXPECT_TRUE(state.ok()) << state.status();
    const std::span<float> all(logits);
    BDH_EXPECT_OK(model_->Prefill(**state, tokens.first(prefilled), all.first(vocabulary), {}));
    for (size_t t = prefilled; t < tokens.size(); ++t) {
      const auto row = all.subspan((t - prefilled + 1) * vocabulary, vocabulary);
      BDH_EXPECT_OK(model_->StepOne(**state, tokens[t], row));
    }
    return logits;
  }

  std::unique_ptr<tensorfile::SafetensorsFile> file_;
  std::shared_ptr<const BdhModel> model_;
};

TEST_P(Golden, LogitsAreTheReferences) {
  const auto expected = Floats("logits");
  const auto tokens = Tokens("idx");
  double largest = 0, difference = 0;
  for (const float value : expected) largest = std::max(largest, std::abs(double{value}));
  for (int64_t row = 0; row < rows(); ++row) {
    const auto logits = Run(std::span(tokens).subspan(row * length(), length()), 1);
    for (size_t i = 0; i < logits.size(); ++i) {
      difference = std::max(difference, std::abs(double{logits[i]} - expected[row * logits.size() + i]));
    }
  }
  RecordProperty("relative_difference", std::to_string(difference / largest));
  EXPECT_LE(difference, kTolerance * largest);
}

TEST_P(Golden, LossIsTheReferences) {
  const auto tokens = Tokens("idx"), targets = Tokens("targets");
  const int64_t vocabulary = model_->vocab_size();
  double loss = 0;
  for (int64_t row = 0; row < rows(); ++row) {
    const auto logits = Run(std::span(tokens).subspan(row * length(), length()), 1);
    for (int64_t t = 0; t < length(); ++t) {
      double total = 0;
      for (int64_t v = 0; v < vocabulary; ++v) total += std::exp(double{logits[t * vocabulary + v]});
      loss += std::log(total) - logits[t * vocabulary + targets[row * length() + t]];
    }
  }
  EXPECT_NEAR(loss / static_cast<double>(rows() * length()), Floats("loss")[0], 1e-5);
}

TEST_P(Golden, PrefillThenStepsHasTheBitsOfAllSteps) {
  const auto tokens = Tokens("idx");
  const std::vector<int32_t> sequence(tokens.begin(), tokens.begin() + length());
  const auto all = Run(sequence, 1);
  for (const int64_t prefilled : {int64_t{2}, int64_t{7}, length()}) {
    const auto logits = Run(sequence, prefilled);
    EXPECT_TRUE(std::equal(logits.begin(), logits.end(), all.end() - logits.size()));
  }
}

class GoldenGreedy : public Golden {};

TEST_P(GoldenGreedy, TokensAreTheReferences) {
  const auto expected = Tokens("greedy");
  std::vector<int32_t> tokens(expected.begin(), expected.begin() + kGreedyPrompt);
  std::vector<float> logits(model_->vocab_size());
  BDH_ASSERT_OK_AND_ASSIGN(const auto state, model_->NewState());
  BDH_ASSERT_OK(model_->Prefill(*state, tokens, logits, {}));
  Sampler sampler({.temperature = 0});
  while (true) {
    BDH_ASSERT_OK_AND_ASSIGN(const int32_t token, sampler.Next(logits));
    tokens.push_back(token);
    if (tokens.size() == expected.size()) break;
    BDH_ASSERT_OK(model_->StepOne(*state, token, logits));
  }
  EXPECT_EQ(tokens, expected);
}

INSTANTIATE_TEST_SUITE_P(Files, Golden, testing::Values("tiny", "small", "train"),
                         [](const auto& info) { return info.param; });
INSTANTIATE_TEST_SUITE_P(Files, GoldenGreedy, testing::Values("tiny", "small"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace bdh::engine
