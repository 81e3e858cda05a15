// Proves that a token depends on (logits, parameters, seed, number of the draw) alone, that the draws follow
// the probabilities, and that every parameter does what it says, ties and edges included.
#include "bdh/engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "bdh/testing/status_matchers.h"

namespace bdh::engine {
namespace {

using testing::StartsWith;

// How often each token comes in `count` draws.
std::map<int32_t, int> Draw(const SamplingParams& params, const std::vector<float>& logits, int count) {
  Sampler sampler(params);
  std::map<int32_t, int> seen;
  for (int i = 0; i < count; ++i) ++seen[*sampler.Next(logits)];
  return seen;
}

std::vector<int32_t> Sequence(const SamplingParams& params, const std::vector<float>& logits, int count) {
  Sampler sampler(params);
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(*sampler.Next(logits));
  return tokens;
}

TEST(Sampler, GreedyTakesTheLikeliestAndOfEqualsTheFirst) {
  EXPECT_EQ(*Sampler({.temperature = 0}).Next(std::vector<float>{1, 3, 2}), 1);
  EXPECT_EQ(*Sampler({.temperature = 0}).Next(std::vector<float>{1, 3, 3, 3}), 1);
}

TEST(Sampler, TopKOneAndTopPZeroAreGreedyAtAnyTemperature) {
  const std::vector<float> logits = {1, 1.1f, 1};
  EXPECT_EQ(Draw({.temperature = 2, .top_k = 1, .seed = 3}, logits, 50).size(), 1u);
  EXPECT_EQ(Draw({.temperature = 2, .top_p = 0, .seed = 3}, logits, 50).size(), 1u);
}

TEST(Sampler, TheSameSeedGivesTheSameTokensAndAnotherSeedOthers) {
  const std::vector<float> logits(64, 0.5f);
  EXPECT_EQ(Sequence({.seed = 1}, logits, 100), Sequence({.seed = 1}, logits, 100));
  EXPECT_NE(Sequence({.seed = 1}, logits, 100), Sequence({.seed = 2}, logits, 100));
  EXPECT_NE(Sequence({.seed = 0}, logits, 100), Sequence({.seed = 1}, logits, 100));
}

TEST(Sampler, DrawsFollowTheProbabilities) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  auto seen = Draw({.seed = 11}, logits, 20000);
  EXPECT_NEAR(seen[0] / 20000.0, 0.5, 0.02);
  EXPECT_NEAR(seen[1] / 20000.0, 0.3, 0.02);
  EXPECT_NEAR(seen[2] / 20000.0, 0.2, 0.02);
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  const std::vector<float> logits = {1, 0};
  const double cold = Draw({.temperature = 0.5, .seed = 1}, logits, 20000)[0] / 20000.0;
  const double hot = Draw({.temperature = 2, .seed = 1}, logits, 20000)[0] / 20000.0;
  EXPECT_NEAR(cold, 1 / (1 + std::exp(-2.0)), 0.02);
  EXPECT_NEAR(hot, 1 / (1 + std::exp(-0.5)), 0.02);
}

TEST(Sampler, TopKKeepsTheKLikeliestAndOfEqualsTheFirst) {
  EXPECT_EQ(Draw({.top_k = 2, .seed = 1}, {0, 2, 1, 3}, 500).size(), 2u);
  const auto seen = Draw({.top_k = 2, .seed = 1}, {1, 1, 1, 1}, 500);
  EXPECT_TRUE(seen.count(0) == 1 && seen.count(1) == 1 && seen.size() == 2);
  EXPECT_EQ(Draw({.top_k = 99, .seed = 1}, {1, 1, 1}, 500).size(), 3u) << "more than there are: all";
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesP) {
  const std::vector<float> logits = {std::log(0.2f), std::log(0.5f), std::log(0.3f)};
  EXPECT_EQ(Draw({.top_p = 0.45, .seed = 1}, logits, 500).size(), 1u);
  EXPECT_EQ(Draw({.top_p = 0.7, .seed = 1}, logits, 500).size(), 2u);
  EXPECT_EQ(Draw({.top_p = 0.9, .seed = 1}, logits, 500).size(), 3u);
  EXPECT_EQ(Draw({.top_p = 1, .seed = 1}, logits, 500).size(), 3u);
}

TEST(Sampler, VeryUnlikeEnoughLogitsDoNotOverflow) {
  EXPECT_EQ(*Sampler({.temperature = 1e-300, .seed = 1}).Next(std::vector<float>{-3e38f, 3e38f, 0}), 1);
}

TEST(Sampler, LogitsThatAreNotFiniteAreAnError) {
  const std::vector<float> logits = {1, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_EQ(Sampler({.temperature = 0}).Next(logits).status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Sampler({.seed = 1}).Next(logits).status().code(), absl::StatusCode::kInternal);
}

TEST(SamplingParams, OutOfRangeIsRefusedByName) {
  const auto message = [](const SamplingParams& params) { return std::string(Validate(params).message()); };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message({.temperature = -0.1}), StartsWith("temperature is -0.1; want"));
  EXPECT_THAT(message({.temperature = 2.1}), StartsWith("temperature is 2.1"));
  EXPECT_THAT(message({.temperature = nan}), StartsWith("temperature is nan"));
  EXPECT_THAT(message({.top_k = -1}), StartsWith("top_k is -1"));
  EXPECT_THAT(message({.top_p = 1.5}), StartsWith("top_p is 1.5"));
  EXPECT_THAT(message({.top_p = nan}), StartsWith("top_p is nan"));
  BDH_EXPECT_OK(Validate({.temperature = 0, .top_k = 0, .top_p = 0}));
  BDH_EXPECT_OK(Validate({.temperature = 2, .top_k = 1 << 30, .top_p = 1}));
}

}  // namespace
}  // namespace bdh::engine
