// Proves the promise of bdh_model.h: the bits of the logits at a position depend on the tokens before it and
// on nothing else. Every way in which a state can come to be is tried, alone and in batches, on one thread
// and on two, with the vector kernels, against a plain run of the scalar ones.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "bdh/engine/bdh_model.h"
#include "bdh/testing/status_matchers.h"
#include "bdh_state.h"
#include "random_weights.h"

namespace bdh::engine {
namespace {

// Two heads of two segments each, and a width that must be padded.
const spec::ModelConfig kConfig = {.n_layer = 2,
                                   .n_embd = 24,
                                   .n_head = 2,
                                   .mlp_internal_dim_multiplier = 180,
                                   .vocab_size = 40,
                                   .dropout = 0};
constexpr int kGrid = 8, kDenseFrom = 16, kLength = 84, kSteps = 20;

std::vector<int32_t> Text() {
  std::mt19937 generator(3);
  std::vector<int32_t> tokens(kLength);
  for (int32_t& token : tokens) token = static_cast<int32_t>(generator() % kConfig.vocab_size);
  return tokens;
}

std::shared_ptr<const BdhModel> Model(int threads, const kernels::Kernels* kernels = nullptr) {
  static const Weights weights(kConfig);
  const auto model = BdhModel::Create(kConfig, weights.Named(),
                                      {.grid = kGrid,
                                       .dense_from = kDenseFrom,
                                       .threads = threads,
                                       .keep_bytes = 4 << 20,
                                       .kernels = kernels});
  EXPECT_TRUE(model.ok()) << model.status();
  return *model;
}

std::span<const int32_t> First(int64_t count) {
  static const std::vector<int32_t> text = Text();
  return std::span(text).first(count);
}

// Logits after every token of the text, one step each, by the scalar kernels.
const std::vector<std::vector<float>>& Expected() {
  static const auto expected = [] {
    const auto& twin = kernels::Best().fused ? kernels::Scalar() : kernels::ScalarRoundingTwice();
    const auto model = Model(1, &twin);
    const auto state = *model->NewState();
    std::vector<std::vector<float>> all(kLength, std::vector<float>(kConfig.vocab_size));
    for (int t = 0; t < kLength; ++t) BDH_EXPECT_OK(model->StepOne(*state, First(t + 1).back(), all[t]));
    return all;
  }();
  return expected;
}

bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

using StatePtr = std::unique_ptr<DecodeState>;

StatePtr Fed(const BdhModel& model, int64_t tokens) {
  StatePtr state = *model.NewState();
  if (tokens > 0) BDH_EXPECT_OK(model.Prefill(*state, First(tokens), {}, {}));
  return state;
}

StatePtr Reloaded(const BdhModel& model, const DecodeState& state, StateForm form) {
  const auto bytes = model.SnapshotAs(state, form);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  auto loaded = model.Restore(*bytes);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return *std::move(loaded);
}

// A way to a state that has read the first `tokens` tokens of the text.
struct Way {
  std::string name;
  std::function<StatePtr(const BdhModel&, int64_t tokens)> make;
};

const Way kWays[] = {
    {"cold", Fed},
    {"in_used_memory",
     [](const BdhModel& model, int64_t tokens) {
       {
         const StatePtr other = Fed(model, 0);
         BDH_EXPECT_OK(model.Prefill(*other, std::vector<int32_t>(kLength, 11), {}, {}));
       }
       return Fed(model, tokens);
     }},
    {"prefix_hit",
     [](const BdhModel& model, int64_t tokens) {
       const StatePtr prefix = Fed(model, tokens / 2);
       StatePtr state = *prefix->Fork();
       BDH_EXPECT_OK(model.Prefill(*state, First(tokens).subspan(tokens / 2), {}, {}));
       return state;
     }},
    {"forked",
     [](const BdhModel& model, int64_t tokens) {
       const StatePtr origin = Fed(model, tokens);
       StatePtr state = *origin->Fork();
       // What the origin does afterwards is no concern of its fork.
       BDH_EXPECT_OK(model.Prefill(*origin, std::vector<int32_t>(40, 7), {}, {}));
       return state;
     }},
    {"rolled_back",
     [](const BdhModel& model, int64_t tokens) {
       StatePtr state = Fed(model, tokens);
       for (const int64_t wrong : {1, 3, 30}) {
         BDH_EXPECT_OK(model.Prefill(*state, std::vector<int32_t>(wrong, 9), {}, {}));
         BDH_EXPECT_OK(state->Truncate(tokens));
       }
       return state;
     }},
    {"cut_and_redone",
     [](const BdhModel& model, int64_t tokens) {
       StatePtr state = Fed(model, tokens);
       for (const int64_t kept : {tokens - 1, tokens - 5, tokens / 3}) {
         BDH_EXPECT_OK(state->Truncate(kept));
         BDH_EXPECT_OK(model.Prefill(*state, First(tokens).subspan(kept), {}, {}));
       }
       return state;
     }},
    {"saved_as_tokens",
     [](const BdhModel& model, int64_t tokens) {
       return Reloaded(model, *Fed(model, tokens), StateForm::kTokens);
     }},
    {"saved_as_it_was",
     [](const BdhModel& model, int64_t tokens) {
       const StatePtr state = Fed(model, tokens);
       return Reloaded(model, *state, tokens > kDenseFrom ? StateForm::kDense : StateForm::kFactors);
     }},
    {"rested",
     [](const BdhModel& model, int64_t tokens) {
       StatePtr state = Fed(model, tokens);
       state->Rest();
       return state;
     }},
};

class Exactness : public testing::TestWithParam<std::tuple<Way, int, int>> {};

TEST_P(Exactness, HoldsForEveryStepOfABatch) {
  const auto& [way, batch, threads] = GetParam();
  const auto model = Model(threads);
  // From before the grid begins, on a line of it, at dense_from, and beyond.
  const int64_t lengths[] = {5, 16, 23, 33, 47, 48, 60, 15};
  std::vector<StatePtr> states;
  std::vector<std::vector<float>> logits(batch, std::vector<float>(kConfig.vocab_size));
  for (int i = 0; i < batch; ++i) states.push_back(way.make(*model, lengths[i]));
  for (int step = 0; step < kSteps; ++step) {
    std::vector<DecodeModel::StepInput> inputs;
    for (int i = 0; i < batch; ++i) {
      inputs.push_back({states[i].get(), First(lengths[i] + step + 1).back(), logits[i]});
    }
    BDH_ASSERT_OK(model->Step(inputs));
    for (int i = 0; i < batch; ++i) {
      ASSERT_TRUE(SameBits(logits[i], Expected()[lengths[i] + step])) << "state " << i << ", step " << step;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Exactness,
                         testing::Combine(testing::ValuesIn(kWays), testing::Values(1, 3, 8),
                                          testing::Values(1, 2)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + "_batch" +
                                  std::to_string(std::get<1>(info.param)) + "_threads" +
                                  std::to_string(std::get<2>(info.param));
                         });

TEST(ExactPrefill, HowTokensAreCutIntoCallsChangesNoBit) {
  for (const int threads : {1, 2}) {
    const auto model = Model(threads);
    for (const int64_t piece : {1, 2, 7, 8, 31, 64, kLength}) {
      const auto state = *model->NewState();
      std::vector<float> logits(kConfig.vocab_size);
      for (int64_t at = 0; at < kLength; at += piece) {
        const int64_t end = std::min<int64_t>(kLength, at + piece);
        BDH_ASSERT_OK(model->Prefill(*state, First(end).subspan(at), logits, {}));
        ASSERT_TRUE(SameBits(logits, Expected()[end - 1])) << "pieces of " << piece << ", up to " << end;
      }
    }
  }
}

TEST(ExactBatch, StatesThatShareARhoReadItTogetherWithTheSameBits) {
  const auto model = Model(2);
  const StatePtr origin = Fed(*model, 45);
  std::vector<StatePtr> forks;
  for (int i = 0; i < 5; ++i) forks.push_back(*origin->Fork());
  std::vector<std::vector<float>> logits(5, std::vector<float>(kConfig.vocab_size));
  for (int64_t t = 45; t < 65; ++t) {
    std::vector<DecodeModel::StepInput> inputs;
    for (int i = 0; i < 5; ++i) inputs.push_back({forks[i].get(), First(t + 1).back(), logits[i]});
    BDH_ASSERT_OK(model->Step(inputs));
    for (int i = 0; i < 5; ++i)
      ASSERT_TRUE(SameBits(logits[i], Expected()[t])) << "fork " << i << " at " << t;
  }
}

TEST(ExactBatch, AnyNumberOfStatesFits) {
  const auto model = Model(1);
  std::vector<StatePtr> states;
  std::vector<std::vector<float>> logits(130, std::vector<float>(kConfig.vocab_size));
  std::vector<DecodeModel::StepInput> inputs;
  for (auto& row : logits) {
    states.push_back(Fed(*model, 3));
    inputs.push_back({states.back().get(), First(4).back(), row});
  }
  BDH_ASSERT_OK(model->Step(inputs));
  for (const auto& row : logits) ASSERT_TRUE(SameBits(row, Expected()[3]));
}

TEST(ExactFork, SharesRhoAndTakesACopyAtTheNextLineOfTheGridOnly) {
  const auto model = Model(1);
  const StatePtr origin = Fed(*model, 79), fork = *origin->Fork();
  const auto rho = [](const StatePtr& state) {
    return static_cast<const BdhState&>(*state).layer(0).base.get();
  };
  const DenseLayer* shared = rho(origin);
  EXPECT_EQ(rho(fork), shared);
  std::vector<float> one(kConfig.vocab_size), other(one);
  BDH_ASSERT_OK(model->StepOne(*fork, 1, one));
  EXPECT_EQ(rho(fork), shared) << "token 79 stands before the line";
  BDH_ASSERT_OK(model->StepOne(*origin, 1, other));
  EXPECT_TRUE(SameBits(one, other));
  BDH_ASSERT_OK(model->StepOne(*fork, 2, one));
  EXPECT_NE(rho(fork), shared);
  BDH_ASSERT_OK(model->StepOne(*origin, 2, other));
  EXPECT_EQ(rho(origin), shared) << "nobody else holds it any more";
  EXPECT_TRUE(SameBits(one, other));
}

TEST(ExactTruncate, ACancelledRebuildLeavesTheStateWhereItWas) {
  const auto model = Model(1);
  const StatePtr state = Fed(*model, 60);
  BDH_ASSERT_OK(state->Truncate(30));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(model->Prefill(*state, First(31).last(1), {}, stop.get_token()).code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(state->position(), 30);
  std::vector<float> logits(kConfig.vocab_size);
  BDH_ASSERT_OK(model->StepOne(*state, First(31).back(), logits));
  EXPECT_TRUE(SameBits(logits, Expected()[30]));
}

}  // namespace
}  // namespace bdh::engine
