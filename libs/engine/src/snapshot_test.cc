// Proves that a snapshot goes back only where it came from: one that is damaged anywhere, or of another
// model, type, grid, phase mode or numerics, is refused by a sentence that says which.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bdh/base/text.h"
#include "bdh/engine/bdh_model.h"
#include "bdh/testing/status_matchers.h"
#include "random_weights.h"

namespace bdh::engine {
namespace {

using testing::HasSubstr;

constexpr BdhOptions kOptions = {.grid = 8, .dense_from = 16};

std::shared_ptr<const BdhModel> Model(const BdhOptions& options = kOptions,
                                      const Weights& weights = Weights()) {
  return *BdhModel::Create(kSmallConfig, weights.Named(), options);
}

class SnapshotTest : public testing::Test {
 protected:
  std::unique_ptr<DecodeState> Fed(int tokens) {
    auto state = *model_->NewState();
    std::vector<int32_t> text;
    for (int t = 0; t < tokens; ++t) text.push_back(t * 7 % 24);
    if (tokens > 0) BDH_EXPECT_OK(model_->Prefill(*state, text, {}, {}));
    return state;
  }
  std::string Dense() { return *model_->SnapshotAs(*Fed(45), StateForm::kDense); }
  std::string Refusal(std::string_view bytes) {
    const auto state = model_->Restore(bytes);
    EXPECT_FALSE(state.ok());
    return std::string(state.status().message());
  }
  // With the checksum of what is in it.
  static std::string Sealed(std::string bytes) {
    bytes.resize(bytes.size() - 64);
    return bytes + Sha256Hex(bytes);
  }
  static std::string Replaced(std::string bytes, std::string_view what, std::string_view by) {
    const size_t at = bytes.find(what);
    EXPECT_NE(at, std::string::npos);
    return Sealed(bytes.replace(at, what.size(), by));
  }
  const std::shared_ptr<const BdhModel> model_ = Model();
};

TEST_F(SnapshotTest, GoesOnFromAnyForm) {
  for (const auto& [tokens, form] : {std::pair(0, StateForm::kTokens), std::pair(12, StateForm::kFactors),
                                     std::pair(16, StateForm::kFactors), std::pair(45, StateForm::kDense),
                                     std::pair(48, StateForm::kDense), std::pair(45, StateForm::kTokens)}) {
    const auto state = Fed(tokens);
    BDH_ASSERT_OK_AND_ASSIGN(const std::string bytes, model_->SnapshotAs(*state, form));
    BDH_ASSERT_OK_AND_ASSIGN(const auto loaded, model_->Restore(bytes));
    EXPECT_EQ(loaded->position(), tokens);
    std::vector<float> one(24), other(24);
    BDH_ASSERT_OK(model_->StepOne(*state, 3, one));
    BDH_ASSERT_OK(model_->StepOne(*loaded, 3, other));
    EXPECT_EQ(one, other);
  }
}

TEST_F(SnapshotTest, TakesTheFormThatCostsLeast) {
  const auto brief = *Fed(2)->Snapshot();
  EXPECT_THAT(brief, HasSubstr("form=tokens\n"));
  EXPECT_EQ(model_->PlanRest(2).best, StateForm::kTokens);
}

TEST_F(SnapshotTest, AFormThatTheStateDoesNotHaveIsNotMadeUp) {
  EXPECT_EQ(model_->SnapshotAs(*Fed(5), StateForm::kDense).status().message(),
            "the state is kept as factors now; it cannot be saved as dense");
}

TEST_F(SnapshotTest, OfAnotherModelOrOtherOptionsIsRefusedByField) {
  Weights other;
  other.values("decoder")[3] += 1;
  EXPECT_THAT(std::string(Model(kOptions, other)->Restore(Dense()).status().message()),
              testing::StartsWith("snapshot field fingerprint is " + model_->fingerprint()));
  const auto refusal = [&](BdhOptions options) {
    return std::string(Model(options)->Restore(Dense()).status().message());
  };
  EXPECT_EQ(refusal({.dtype = kernels::DType::kBf16, .grid = 8, .dense_from = 16}),
            "snapshot field dtype is f32; this model has bf16");
  EXPECT_EQ(refusal({.phases = kernels::PhaseMode::kPrecise, .grid = 8, .dense_from = 16}),
            "snapshot field phases is reference; this model has precise");
  EXPECT_EQ(refusal({.grid = 4, .dense_from = 16}), "snapshot field grid is 8; this model has 4");
  EXPECT_EQ(refusal({.grid = 8, .dense_from = 24}), "snapshot field dense_from is 16; this model has 24");
  const auto& unlike = kernels::Best().fused ? kernels::ScalarRoundingTwice() : kernels::Scalar();
  EXPECT_THAT(refusal({.grid = 8, .dense_from = 16, .kernels = &unlike}),
              HasSubstr("snapshot field numerics is bdh-1/"));
}

TEST_F(SnapshotTest, DamageAnywhereIsFound) {
  const std::string bytes = Dense();
  for (size_t at = 12; at < bytes.size(); at += bytes.size() / 97) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    EXPECT_THAT(Refusal(damaged), HasSubstr("checksum")) << at;
  }
  EXPECT_THAT(Refusal(""), HasSubstr("no snapshot"));
  EXPECT_THAT(Refusal("something else"), HasSubstr("no snapshot"));
  EXPECT_THAT(Refusal(bytes.substr(0, 20)), HasSubstr("cut short"));
  EXPECT_THAT(Refusal(bytes.substr(0, bytes.size() / 2)), HasSubstr("checksum"));
  EXPECT_THAT(Refusal(bytes + "x"), HasSubstr("checksum"));
}

// Whoever can compute a checksum can still not make the engine read where nothing is.
TEST_F(SnapshotTest, LiesWithARightChecksumAreRefused) {
  const std::string bytes = Dense();
  EXPECT_THAT(Refusal(Replaced(bytes, "position=45", "position=46")), HasSubstr("snapshot"));
  EXPECT_THAT(Refusal(Replaced(bytes, "position=45", "position=-1")), HasSubstr("field position is -1"));
  EXPECT_THAT(Refusal(Replaced(bytes, "position=45", "position=99999999999")), HasSubstr("field position"));
  EXPECT_THAT(Refusal(Replaced(bytes, "base_position=40", "base_position=39")), HasSubstr("base_position"));
  EXPECT_THAT(Refusal(Replaced(bytes, "base_position=40", "base_position=0")), HasSubstr("base_position"));
  EXPECT_THAT(Refusal(Replaced(bytes, "form=dense", "form=factors")), HasSubstr("field form is factors"));
  EXPECT_THAT(Refusal(Replaced(bytes, "form=dense", "form=other")), HasSubstr("field form is other"));
  EXPECT_THAT(Refusal(Replaced(bytes, "grid=", "gird=")), HasSubstr("field grid is missing"));
  EXPECT_THAT(Refusal(Replaced(bytes, "payload_bytes=", "payload_bytes=1")), HasSubstr("cut short"));

  const size_t payload = bytes.find("\n\n") + 2;
  std::string token = bytes;
  token[payload + 1] = 1;  // 256 and more.
  EXPECT_THAT(Refusal(Sealed(token)), HasSubstr("outside the vocabulary"));
  std::string number = bytes;
  const size_t rows = payload + 45 * 4 + kSmallConfig.neurons() / 8;
  number.replace(rows, 4, std::string("\0\0\xc0\x7f", 4));
  EXPECT_THAT(Refusal(Sealed(number)), HasSubstr("not finite"));
}

}  // namespace
}  // namespace bdh::engine
