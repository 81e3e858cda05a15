// Proves that the interface of decode_model.h fits models that remember in different ways: what it promises
// is tried on BDH, whose state has one size, and on a small transformer, whose keys and values grow with the
// text. And the scheduler generates with either.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/engine/bdh_model.h"
#include "bdh/engine/scheduler.h"
#include "bdh/testing/status_matchers.h"
#include "random_weights.h"

namespace bdh::engine {
namespace {

constexpr int kVocabulary = 24, kWidth = 8;

// One layer of softmax attention over cached keys and values.
class TransformerState final : public DecodeState {
 public:
  int64_t position() const override { return static_cast<int64_t>(cache.size() / (2 * kWidth)); }
  int64_t memory_bytes() const override { return static_cast<int64_t>(cache.size() * sizeof(float)); }
  absl::StatusOr<std::unique_ptr<DecodeState>> Fork() const override {
    return std::make_unique<TransformerState>(*this);
  }
  absl::Status Truncate(int64_t position) override {
    if (position < 0 || position > this->position()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("a state of %d tokens cannot be cut to %d", this->position(), position));
    }
    cache.resize(position * 2 * kWidth);
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> Snapshot() const override {
    return "kv" + std::string(reinterpret_cast<const char*>(cache.data()), memory_bytes());
  }
  std::vector<float> cache;  // Key and value of every token.
};

class Transformer final : public DecodeModel {
 public:
  Transformer() {
    std::mt19937 generator(11);
    for (auto* weights : {&embed_, &query_, &key_, &value_, &head_}) {
      weights->resize(kVocabulary * kWidth);
      for (float& weight : *weights) weight = static_cast<float>(generator()) / 4294967296.0f - 0.5f;
    }
  }
  int32_t vocab_size() const override { return kVocabulary; }
  int64_t parameter_count() const override { return 5 * kVocabulary * kWidth; }
  int64_t weight_bytes() const override { return parameter_count() * 4; }
  const std::string& fingerprint() const override { return fingerprint_; }
  int64_t max_tokens() const override { return 4096; }
  int64_t StateBytes(int64_t tokens) const override { return tokens * 2 * kWidth * 4; }
  absl::StatusOr<std::unique_ptr<DecodeState>> NewState() const override {
    return std::make_unique<TransformerState>();
  }
  absl::StatusOr<std::unique_ptr<DecodeState>> Restore(std::string_view snapshot) const override {
    if (!snapshot.starts_with("kv")) return absl::InvalidArgumentError("these bytes are no snapshot");
    auto state = std::make_unique<TransformerState>();
    state->cache.resize((snapshot.size() - 2) / sizeof(float));
    std::memcpy(state->cache.data(), snapshot.data() + 2, state->cache.size() * sizeof(float));
    return state;
  }
  absl::Status Prefill(DecodeState& state, std::span<const int32_t> tokens, std::span<float> logits,
                       const std::stop_token& stop) const override {
    if (tokens.empty()) return absl::InvalidArgumentError("no tokens to feed");
    for (const int32_t token : tokens) BDH_RETURN_IF_ERROR(CheckToken(token));
    for (const int32_t token : tokens) {
      if (stop.stop_requested()) return absl::CancelledError("cancelled");
      Feed(static_cast<TransformerState&>(state), token, logits);
    }
    return absl::OkStatus();
  }
  absl::Status Step(std::span<const StepInput> batch) const override {
    for (const StepInput& input : batch) BDH_RETURN_IF_ERROR(CheckToken(input.token));
    for (const StepInput& input : batch) {
      Feed(static_cast<TransformerState&>(*input.state), input.token, input.logits);
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status CheckToken(int32_t token) {
    if (token >= 0 && token < kVocabulary) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrFormat("token %d is outside the vocabulary", token));
  }
  void Feed(TransformerState& state, int32_t token, std::span<float> logits) const {
    std::vector<float>& cache = state.cache;
    const int64_t at = token * kWidth;
    cache.insert(cache.end(), key_.begin() + at, key_.begin() + at + kWidth);
    cache.insert(cache.end(), value_.begin() + at, value_.begin() + at + kWidth);
    float sum = 0, mixed[kWidth] = {};
    for (int64_t s = 0; s < state.position(); ++s) {
      float score = 0;
      for (int i = 0; i < kWidth; ++i) score += query_[at + i] * cache[s * 2 * kWidth + i];
      const float weight = std::exp(score + 0.01f * static_cast<float>(s));
      sum += weight;
      for (int i = 0; i < kWidth; ++i) mixed[i] += weight * cache[s * 2 * kWidth + kWidth + i];
    }
    for (size_t v = 0; v < logits.size(); ++v) {
      logits[v] = 0;
      for (int i = 0; i < kWidth; ++i) logits[v] += head_[v * kWidth + i] * (mixed[i] / sum + embed_[at + i]);
    }
  }

  std::vector<float> embed_, query_, key_, value_, head_;
  const std::string fingerprint_ = "transformer";
};

std::shared_ptr<const DecodeModel> Bdh() {
  return *BdhModel::Create(kSmallConfig, Weights().Named(), {.grid = 8, .dense_from = 16, .threads = 2});
}

struct Kind {
  std::string name;
  std::function<std::shared_ptr<const DecodeModel>()> make;
};

class DecodeContract : public testing::TestWithParam<Kind> {
 protected:
  static std::vector<int32_t> Text(int length) {
    std::vector<int32_t> tokens;
    for (int t = 0; t < length; ++t) tokens.push_back(t * 5 % kVocabulary);
    return tokens;
  }
  std::unique_ptr<DecodeState> Fed(int length) {
    auto state = *model_->NewState();
    BDH_EXPECT_OK(model_->Prefill(*state, Text(length), {}, {}));
    return state;
  }
  std::vector<float> Next(DecodeState& state, int32_t token) {
    std::vector<float> logits(kVocabulary);
    BDH_EXPECT_OK(model_->StepOne(state, token, logits));
    return logits;
  }
  const std::shared_ptr<const DecodeModel> model_ = GetParam().make();
};

TEST_P(DecodeContract, StatesGoOnAsTheyWereForkedCutAndSaved) {
  for (const int length : {3, 20, 33}) {
    const auto expected = Next(*Fed(length), 7);
    const auto state = Fed(length);
    const auto fork = *state->Fork();
    EXPECT_EQ(Next(*fork, 7), expected);
    BDH_ASSERT_OK(model_->Prefill(*state, Text(19), {}, {}));
    BDH_ASSERT_OK(state->Truncate(length));
    EXPECT_EQ(state->position(), length);
    BDH_ASSERT_OK_AND_ASSIGN(const std::string bytes, state->Snapshot());
    state->Rest();
    EXPECT_EQ(Next(*state, 7), expected);
    BDH_ASSERT_OK_AND_ASSIGN(const auto restored, model_->Restore(bytes));
    EXPECT_EQ(restored->position(), length);
    EXPECT_EQ(Next(*restored, 7), expected);
    EXPECT_LE(state->memory_bytes(), model_->StateBytes(length + 20));
  }
}

TEST_P(DecodeContract, ABatchHasTheBitsOfItsMembers) {
  const auto one = Fed(4), other = Fed(30);
  std::vector<float> one_logits(kVocabulary), other_logits(kVocabulary);
  const DecodeModel::StepInput batch[] = {{one.get(), 3, one_logits}, {other.get(), 9, other_logits}};
  BDH_ASSERT_OK(model_->Step(batch));
  EXPECT_EQ(one_logits, Next(*Fed(4), 3));
  EXPECT_EQ(other_logits, Next(*Fed(30), 9));
}

TEST_P(DecodeContract, WhatIsWrongIsRefusedAndChangesNothing) {
  const auto state = Fed(5);
  EXPECT_EQ(model_->Prefill(*state, {}, {}, {}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(model_->Prefill(*state, std::vector<int32_t>{1, kVocabulary}, {}, {}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(model_->StepOne(*state, -1, {}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(state->Truncate(6).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(model_->Restore("nonsense").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Next(*state, 7), Next(*Fed(5), 7));
}

TEST_P(DecodeContract, TheSchedulerGeneratesWithIt) {
  MemoryBudget memory(1 << 30);
  const auto scheduler = Scheduler::Create({.threads = 2, .memory = &memory});
  const auto tokenizer = tokenizer::Find("byte");
  BDH_ASSERT_OK(tokenizer.status());
  std::vector<std::unique_ptr<Generation>> generations;
  for (int i = 0; i < 4; ++i) {
    GenerationRequest request{.model = model_, .tokenizer = *tokenizer, .prompt = Text(10 + i)};
    request.sampling.temperature = 0;
    request.max_tokens = 12;
    BDH_ASSERT_OK_AND_ASSIGN(auto generation, scheduler->Submit(std::move(request)));
    generations.push_back(std::move(generation));
  }
  for (int i = 0; i < 4; ++i) {
    std::vector<int32_t> generated;
    while (true) {
      BDH_ASSERT_OK_AND_ASSIGN(const auto output, generations[i]->Next(absl::Seconds(60)));
      ASSERT_TRUE(output.has_value());
      generated.insert(generated.end(), output->tokens.begin(), output->tokens.end());
      if (output->finish.has_value()) break;
    }
    // The same by hand.
    const auto state = *model_->NewState();
    std::vector<float> logits(kVocabulary);
    BDH_ASSERT_OK(model_->Prefill(*state, Text(10 + i), logits, {}));
    for (const int32_t token : generated) {
      EXPECT_EQ(token, std::max_element(logits.begin(), logits.end()) - logits.begin());
      BDH_ASSERT_OK(model_->StepOne(*state, token, logits));
    }
    EXPECT_EQ(generated.size(), 12u);
  }
}

INSTANTIATE_TEST_SUITE_P(, DecodeContract,
                         testing::Values(Kind{"bdh", Bdh},
                                         Kind{"transformer", [] { return std::make_shared<Transformer>(); }}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace bdh::engine
