// Proves what a BDH model and its states promise beyond the reference's numbers: nothing is remembered before
// the first token, forks go their own ways, memory is known
// beforehand, and weights that are not a model's are refused by name.
#include "bdh/engine/bdh_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "bdh/kernels/kernels.h"
#include "bdh/testing/status_matchers.h"
#include "random_weights.h"

namespace bdh::engine {
namespace {

using testing::HasSubstr;

const spec::ModelConfig& kConfig = kSmallConfig;

std::vector<float> Prefill(const BdhModel& model, DecodeState& state, const std::vector<int32_t>& tokens) {
  std::vector<float> logits(model.vocab_size());
  BDH_EXPECT_OK(model.Prefill(state, tokens, logits, {}));
  return logits;
}

class BdhModelTest : public testing::Test {
 protected:
  void SetUp() override { BDH_ASSERT_OK_AND_ASSIGN(model_, Weights().Create()); }
  std::unique_ptr<DecodeState> NewState() { return *model_->NewState(); }
  std::shared_ptr<const BdhModel> model_;
};

TEST_F(BdhModelTest, TheFirstTokenReadsNothing) {
  // Then every layer adds the norm of zero, and the logits follow from the embedding alone.
  Weights weights;
  constexpr int kToken = 5;
  const auto& embed = weights.values("embed.weight");
  std::vector<float> x(embed.begin() + kToken * kConfig.n_embd,
                       embed.begin() + (kToken + 1) * kConfig.n_embd);
  for (int norm = 0; norm < 1 + kConfig.n_layer; ++norm) {
    kernels::Scalar().layer_norm(x.data(), kConfig.n_embd, x.data());
  }
  std::vector<float> expected(kConfig.vocab_size);
  for (int v = 0; v < kConfig.vocab_size; ++v) {
    for (int i = 0; i < kConfig.n_embd; ++i) {
      expected[v] = std::fma(x[i], weights.values("lm_head")[i * kConfig.vocab_size + v], expected[v]);
    }
  }
  EXPECT_EQ(Prefill(*model_, *NewState(), {kToken}), expected);
}

TEST_F(BdhModelTest, WhatCameBeforeMatters) {
  EXPECT_NE(Prefill(*model_, *NewState(), {1, 2, 3}), Prefill(*model_, *NewState(), {2, 1, 3}));
}

TEST_F(BdhModelTest, HowTokensAreCutIntoCallsChangesNoBit) {
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
  const auto whole = Prefill(*model_, *NewState(), tokens);
  for (size_t piece = 1; piece < tokens.size(); ++piece) {
    auto state = NewState();
    std::vector<float> logits(model_->vocab_size());
    for (size_t at = 0; at < tokens.size(); at += piece) {
      const auto part = std::span(tokens).subspan(at, std::min(piece, tokens.size() - at));
      BDH_ASSERT_OK(model_->Prefill(*state, part, logits, {}));
    }
    EXPECT_EQ(logits, whole);
  }
}

TEST_F(BdhModelTest, AForkGoesItsOwnWay) {
  auto origin = NewState();
  Prefill(*model_, *origin, {1, 2, 3, 4});
  BDH_ASSERT_OK_AND_ASSIGN(auto fork, origin->Fork());
  EXPECT_EQ(fork->position(), 4);
  Prefill(*model_, *fork, {9, 9, 9});
  EXPECT_EQ(Prefill(*model_, *origin, {5}), Prefill(*model_, *NewState(), {1, 2, 3, 4, 5}));
  EXPECT_EQ(Prefill(*model_, *fork, {5}), Prefill(*model_, *NewState(), {1, 2, 3, 4, 9, 9, 9, 5}));
}

TEST_F(BdhModelTest, AStateCannotBeCutToWhereItHasNotBeen) {
  auto state = NewState();
  Prefill(*model_, *state, {1, 2, 3});
  EXPECT_EQ(state->Truncate(4).message(), "a state of 3 tokens cannot be cut to 4");
  EXPECT_EQ(state->Truncate(-1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(state->position(), 3);
  BDH_EXPECT_OK(state->Truncate(0));
  EXPECT_EQ(Prefill(*model_, *state, {4, 5}), Prefill(*model_, *NewState(), {4, 5}));
}

TEST_F(BdhModelTest, MemoryIsKnownBeforeItIsTaken) {
  const int64_t rho_bytes = 4 * kConfig.n_layer * kConfig.neurons() * kConfig.n_embd;
  EXPECT_GE(model_->StateBytes(1000), rho_bytes);
  EXPECT_LT(model_->StateBytes(1), rho_bytes) << "a short state holds no rho";
  EXPECT_GE(model_->weight_bytes(), 4 * model_->parameter_count());
  auto state = NewState();
  for (int tokens = 1; tokens < 200; ++tokens) {
    Prefill(*model_, *state, {tokens % 24});
    ASSERT_LE(state->memory_bytes(), model_->StateBytes(tokens)) << tokens;
  }
}

TEST_F(BdhModelTest, AStateTakesNoMoreMemoryHoweverLongItGets) {
  auto state = NewState();
  Prefill(*model_, *state, std::vector<int32_t>(100, 3));
  const int64_t bytes = state->memory_bytes();
  Prefill(*model_, *state, std::vector<int32_t>(3200, 3));
  EXPECT_EQ(state->memory_bytes(), bytes + 3200 * 4) << "but for its tokens";
}

TEST_F(BdhModelTest, OptionsThatCannotBeAreRefusedByName) {
  const auto message = [](const BdhOptions& options) {
    return std::string(BdhModel::Create(kConfig, Weights().Named(), options).status().message());
  };
  EXPECT_EQ(message({.grid = 0}), "grid is 0; want 1 to 64 tokens");
  EXPECT_EQ(message({.grid = 65}), "grid is 65; want 1 to 64 tokens");
  EXPECT_EQ(message({.grid = 8, .dense_from = 12}), "dense_from is 12; want a multiple of grid, which is 8");
  EXPECT_EQ(message({.threads = 0}), "threads is 0; want 1 to 1024");
}

TEST_F(BdhModelTest, RestingIsPlannedByCost) {
  const RestPlan brief = model_->PlanRest(1), lengthy = model_->PlanRest(100000);
  EXPECT_EQ(brief.best, StateForm::kTokens);
  EXPECT_EQ(lengthy.best, StateForm::kDense);
  EXPECT_THAT(lengthy.ToText(), testing::HasSubstr("dense"));
  EXPECT_THAT(lengthy.ToText(), testing::HasSubstr("<- kept"));
}

TEST_F(BdhModelTest, Bf16WeightsAreNearTheirFp32Ones) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto rounded,
                           BdhModel::Create(kConfig, Weights().Named(), {.dtype = kernels::DType::kBf16}));
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6};
  const auto wanted = Prefill(*model_, *NewState(), tokens),
             got = Prefill(*rounded, **rounded->NewState(), tokens);
  EXPECT_NE(got, wanted);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 0.1);
  EXPECT_LT(rounded->weight_bytes(), model_->weight_bytes());
}

TEST_F(BdhModelTest, StopRequestedEndsAPrefillAndTheStateSaysHowFarItCame) {
  std::stop_source stop;
  stop.request_stop();
  auto state = NewState();
  EXPECT_EQ(model_->Prefill(*state, std::vector<int32_t>{1, 2, 3}, {}, stop.get_token()).code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(state->position(), 0);
}

TEST_F(BdhModelTest, BadTokensAreRefusedBeforeAnythingChanges) {
  auto state = NewState();
  Prefill(*model_, *state, {1});
  std::vector<float> logits(model_->vocab_size());
  EXPECT_EQ(model_->Prefill(*state, std::vector<int32_t>{1, 24}, logits, {}).message(),
            "token 24 is outside the vocabulary; want 0 to 23");
  EXPECT_EQ(model_->StepOne(*state, -1, logits).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(model_->Prefill(*state, {}, logits, {}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(state->position(), 1);
}

TEST_F(BdhModelTest, TheFingerprintFollowsWhatDecidesTheLogits) {
  EXPECT_EQ(model_->fingerprint().size(), 64u);
  EXPECT_EQ((*Weights().Create())->fingerprint(), model_->fingerprint());
  Weights changed;
  changed.values("decoder")[17] += 1e-6f;
  EXPECT_NE((*changed.Create())->fingerprint(), model_->fingerprint());

  Weights with_frequencies;
  with_frequencies.values(spec::kFrequenciesName) = spec::RopeFrequencies(kConfig.neurons_per_head());
  with_frequencies.shape(spec::kFrequenciesName) = {1, 1, 1, kConfig.neurons_per_head()};
  EXPECT_EQ((*with_frequencies.Create())->fingerprint(), model_->fingerprint());
  with_frequencies.values(spec::kFrequenciesName)[0] *= 2;
  with_frequencies.values(spec::kFrequenciesName)[1] *= 2;
  EXPECT_NE((*with_frequencies.Create())->fingerprint(), model_->fingerprint());
}

TEST_F(BdhModelTest, StoredFrequenciesAreUsed) {
  Weights weights;
  weights.values(spec::kFrequenciesName) = std::vector<float>(kConfig.neurons_per_head(), 0.25f);
  weights.shape(spec::kFrequenciesName) = {kConfig.neurons_per_head()};
  BDH_ASSERT_OK_AND_ASSIGN(const auto other, weights.Create());
  auto state = other->NewState();
  EXPECT_NE(Prefill(*other, **state, {1, 2, 3}), Prefill(*model_, *NewState(), {1, 2, 3}));
}

struct Damage {
  std::string name;
  std::function<void(Weights&)> spoil;
  std::string message;
};
class RefusedWeights : public testing::TestWithParam<Damage> {};

TEST_P(RefusedWeights, AreNamed) {
  Weights weights;
  GetParam().spoil(weights);
  const auto model = weights.Create();
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(model.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusedWeights,
    testing::Values(
        Damage{"missing", [](Weights& w) { w.Remove("encoder_v"); },
               "tensor encoder_v [2, 16, 32] is missing"},
        Damage{"shape",
               [](Weights& w) {
                 w.shape("decoder") = {16, 64};
               },
               "tensor decoder has shape [16, 64]; the model's config wants [64, 16]"},
        Damage{"size", [](Weights& w) { w.values("lm_head").pop_back(); },
               "tensor lm_head holds 383 numbers"},
        Damage{"nan", [](Weights& w) { w.values("encoder")[3] = std::numeric_limits<float>::quiet_NaN(); },
               "tensor encoder is damaged: element 3 is nan"},
        Damage{"infinite",
               [](Weights& w) { w.values("embed.weight")[0] = std::numeric_limits<float>::infinity(); },
               "tensor embed.weight is damaged: element 0 is inf"},
        Damage{"unknown",
               [](Weights& w) {
                 w.values("wte") = {1};
                 w.shape("wte") = {1};
               },
               "tensor wte is not a weight of a BDH model"},
        Damage{"frequencies",
               [](Weights& w) {
                 w.values("attn.freqs") = std::vector<float>(32, 0.1f);
                 w.values("attn.freqs")[5] = 0.2f;
                 w.shape("attn.freqs") = {32};
               },
               "tensor attn.freqs: neurons 4 and 5 are one pair"}),
    [](const auto& info) { return info.param.name; });

TEST(BdhModelCreate, ANameGivenTwiceIsRefused) {
  const Weights weights;
  auto named = weights.Named();
  named.push_back(named.front());
  EXPECT_THAT(std::string(BdhModel::Create(kConfig, named).status().message()), HasSubstr("is given twice"));
}

TEST(BdhModelCreate, AConfigThatNoModelCanHaveIsRefused) {
  spec::ModelConfig config = kConfig;
  config.n_head = 3;
  EXPECT_THAT(std::string(BdhModel::Create(config, {}).status().message()), HasSubstr("n_head is 3"));
}

// The same model with a vocabulary too large for a kept first layer: more rows of embed, more columns of
// lm_head.
Weights WithVocabulary(Weights& narrow, spec::ModelConfig& config, int32_t vocabulary) {
  const int64_t width = config.n_embd, before = config.vocab_size;
  config.vocab_size = vocabulary;
  Weights wide(config);
  for (const char* same : {"encoder", "encoder_v", "decoder"}) wide.values(same) = narrow.values(same);
  std::copy_n(narrow.values("embed.weight").begin(), before * width, wide.values("embed.weight").begin());
  for (int64_t row = 0; row < width; ++row) {
    std::copy_n(narrow.values("lm_head").begin() + row * before, before,
                wide.values("lm_head").begin() + row * vocabulary);
  }
  return wide;
}

TEST(BdhWorkSparedTest, AFirstLayerThatIsKeptGivesTheBitsOfOneThatIsComputed) {
  spec::ModelConfig config = kSmallConfig;
  Weights narrow(config);
  const Weights wide = WithVocabulary(narrow, config, 600);
  const auto keeps = *narrow.Create();
  const auto computes = *BdhModel::Create(config, wide.Named());
  ASSERT_TRUE(keeps->keeps_first_layer());
  ASSERT_FALSE(computes->keeps_first_layer());
  const auto a = *keeps->NewState(), b = *computes->NewState();
  std::vector<int32_t> tokens(75);
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<int32_t>(i * 7 % kSmallConfig.vocab_size);
  std::vector<float> kept(kSmallConfig.vocab_size), computed(600);
  BDH_ASSERT_OK(keeps->Prefill(*a, tokens, kept, {}));
  BDH_ASSERT_OK(computes->Prefill(*b, tokens, computed, {}));
  EXPECT_TRUE(std::equal(kept.begin(), kept.end(), computed.begin()));
  for (const int32_t token : {3, 3, 21}) {
    BDH_ASSERT_OK(keeps->StepOne(*a, token, kept));
    BDH_ASSERT_OK(computes->StepOne(*b, token, computed));
    EXPECT_TRUE(std::equal(kept.begin(), kept.end(), computed.begin())) << token;
  }
}

// What nobody reads is not computed in the last layer; what comes later does not notice.
TEST(BdhWorkSparedTest, StepsWithoutLogitsLeaveTheStateOfStepsWithThem) {
  const Weights weights;
  const auto model = *weights.Create();
  const auto all = *model->NewState(), some = *model->NewState(), other = *model->NewState();
  std::vector<float> wanted(model->vocab_size()), given(model->vocab_size()), unread(model->vocab_size());
  for (int32_t i = 0; i < 70; ++i) {
    const int32_t token = i * 5 % kSmallConfig.vocab_size;
    BDH_ASSERT_OK(model->StepOne(*all, token, wanted));
    const bool reads = i % 3 == 0;
    BDH_ASSERT_OK(model->Step(std::vector<DecodeModel::StepInput>{
        {other.get(), token, unread},
        {some.get(), token, reads ? std::span<float>(given) : std::span<float>()}}));
    if (reads) {
      EXPECT_EQ(given, wanted) << i;
    }
  }
  const Density once = model->DensityOf(*all), rarely = model->DensityOf(*some);
  EXPECT_EQ(rarely.active, once.active);
  EXPECT_EQ(rarely.pairs, once.pairs);
  EXPECT_GT(rarely.passed, 0);
  EXPECT_LT(rarely.passed, once.active);
}

}  // namespace
}  // namespace bdh::engine
