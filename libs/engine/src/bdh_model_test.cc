// Proves what a BDH model and its states promise beyond the reference's numbers: nothing is remembered before
// the first token, forks go their own ways, a batch is no different from its members, memory is known
// beforehand, and weights that are not a model's are refused by name.
#include "bdh/engine/bdh_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>
#include <vector>

#include "bdh/kernels/kernels.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::engine {
namespace {

using testing::HasSubstr;

const spec::ModelConfig kConfig = {.n_layer = 2,
                                   .n_embd = 16,
                                   .n_head = 2,
                                   .mlp_internal_dim_multiplier = 4,
                                   .vocab_size = 24,
                                   .dropout = 0};

// Random weights under their names, to be spoilt one at a time.
class Weights {
 public:
  explicit Weights(const spec::ModelConfig& config = kConfig) {
    std::mt19937 generator(7);
    for (const auto& weight : spec::Weights(config)) {
      int64_t size = 1;
      for (const int64_t axis : weight.shape) size *= axis;
      auto& tensor = tensors_[weight.name];
      tensor.shape = weight.shape;
      for (int64_t i = 0; i < size; ++i) tensor.values.push_back(generator() / 4294967296.0f - 0.5f);
    }
  }
  std::vector<float>& values(const std::string& name) { return tensors_[name].values; }
  std::vector<int64_t>& shape(const std::string& name) { return tensors_[name].shape; }
  void Remove(const std::string& name) { tensors_.erase(name); }

  std::vector<NamedTensor> Named() const {
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors_) named.push_back({name, tensor.shape, tensor.values});
    return named;
  }
  absl::StatusOr<std::shared_ptr<const BdhModel>> Create() const {
    return BdhModel::Create(kConfig, Named());
  }

 private:
  struct Tensor {
    std::vector<int64_t> shape;
    std::vector<float> values;
  };
  std::map<std::string, Tensor> tensors_;
};

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
  std::vector<float> x(weights.values("embed.weight").begin() + kToken * kConfig.n_embd,
                       weights.values("embed.weight").begin() + (kToken + 1) * kConfig.n_embd);
  for (int norm = 0; norm < 1 + kConfig.n_layer; ++norm) kernels::LayerNorm(x, x);
  std::vector<float> expected(kConfig.vocab_size);
  kernels::MatVec(x,
                  kernels::F32Matrix(weights.values("lm_head"), kernels::Layout::kRowPerInput, kConfig.n_embd,
                                     kConfig.vocab_size),
                  expected);
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

TEST_F(BdhModelTest, AForkContinuesAsItsOriginWouldAndGoesItsOwnWay) {
  auto origin = NewState();
  Prefill(*model_, *origin, {1, 2, 3, 4});
  BDH_ASSERT_OK_AND_ASSIGN(auto fork, origin->Fork());
  EXPECT_EQ(fork->position(), 4);
  Prefill(*model_, *fork, {9, 9, 9});
  EXPECT_EQ(Prefill(*model_, *origin, {5}), Prefill(*model_, *NewState(), {1, 2, 3, 4, 5}));
  EXPECT_EQ(Prefill(*model_, *fork, {5}), Prefill(*model_, *NewState(), {1, 2, 3, 4, 9, 9, 9, 5}));
}

TEST_F(BdhModelTest, ABatchHasTheBitsOfItsMembers) {
  auto one = NewState(), other = NewState();
  Prefill(*model_, *one, {1, 2, 3});
  Prefill(*model_, *other, {4});
  std::vector<float> one_logits(model_->vocab_size()), other_logits(model_->vocab_size());
  const DecodeModel::StepInput batch[] = {{one.get(), 7, one_logits}, {other.get(), 8, other_logits}};
  BDH_ASSERT_OK(model_->Step(batch));
  EXPECT_EQ(one_logits, Prefill(*model_, *NewState(), {1, 2, 3, 7}));
  EXPECT_EQ(other_logits, Prefill(*model_, *NewState(), {4, 8}));
}

TEST_F(BdhModelTest, AStateCanBeEmptiedButNotCutInTheMiddle) {
  auto state = NewState();
  Prefill(*model_, *state, {1, 2, 3});
  BDH_EXPECT_OK(state->Truncate(3));
  EXPECT_EQ(state->Truncate(2).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(state->position(), 3);
  BDH_EXPECT_OK(state->Truncate(0));
  EXPECT_EQ(Prefill(*model_, *state, {4, 5}), Prefill(*model_, *NewState(), {4, 5}));
}

TEST_F(BdhModelTest, MemoryIsKnownBeforeItIsTaken) {
  const int64_t rho_bytes = 4 * kConfig.n_layer * kConfig.neurons() * kConfig.n_embd;
  EXPECT_GE(BdhModel::StateBytesFor(kConfig), rho_bytes);
  EXPECT_EQ(model_->StateBytes(1), BdhModel::StateBytesFor(kConfig));
  EXPECT_EQ(model_->StateBytes(1000000), model_->StateBytes(1));
  EXPECT_EQ(NewState()->memory_bytes(), model_->StateBytes(1));
  EXPECT_GE(model_->weight_bytes(), 4 * model_->parameter_count());
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

}  // namespace
}  // namespace bdh::engine
