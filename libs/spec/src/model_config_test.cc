// What a model may be: every wrong config gets a sentence that names the field, the weights have the
// reference's names and shapes, and a config survives its JSON form.

#include "bdh/spec/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>

#include "bdh/spec/memory.h"
#include "bdh/spec/model_config_json.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::spec {
namespace {

using ::testing::HasSubstr;

std::string Complaint(const absl::Status& status) {
  return std::string(status.message());
}

TEST(ValidateTest, AcceptsTheReferenceDefault) {
  BDH_EXPECT_OK(Validate(ModelConfig{}));
}

TEST(ValidateTest, NamesTheFieldThatIsWrong) {
  struct Case {
    std::function<void(ModelConfig&)> spoil;
    const char* complaint;
  };
  const Case cases[] = {
      {[](auto& c) { c.n_layer = 0; }, "n_layer is 0; want 1 to "},
      {[](auto& c) { c.n_layer = -3; }, "n_layer is -3"},
      {[](auto& c) { c.n_embd = 1; }, "n_embd is 1; want 2 to "},
      {[](auto& c) { c.n_embd = std::numeric_limits<int>::max(); }, "n_embd is 2147483647"},
      {[](auto& c) { c.n_head = 0; }, "n_head is 0"},
      {[](auto& c) { c.mlp_internal_dim_multiplier = 0; }, "mlp_internal_dim_multiplier is 0"},
      {[](auto& c) { c.vocab_size = 1; }, "vocab_size is 1"},
      {[](auto& c) { c.dropout = 1; }, "dropout is 1; want at least 0 and below 1"},
      {[](auto& c) { c.dropout = -0.1; }, "dropout is -0.1"},
      {[](auto& c) { c.dropout = std::nan(""); }, "dropout is nan"},
      {[](auto& c) { c.n_head = 5; }, "divisible by 2 x n_head = 10"},
      {[](auto& c) { c.n_embd = 3, c.mlp_internal_dim_multiplier = 1, c.n_head = 1; },
       "RoPE turns neurons in pairs"},
      {[](auto& c) { c.n_embd = 1 << 20, c.mlp_internal_dim_multiplier = 1 << 20; }, "want a model below"},
  };
  for (const Case& test : cases) {
    ModelConfig config;
    test.spoil(config);
    const absl::Status status = Validate(config);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << test.complaint;
    EXPECT_THAT(Complaint(status), HasSubstr(test.complaint));
  }
}

TEST(WeightsTest, AreThoseOfTheReferenceInItsShapes) {
  const ModelConfig config{
      .n_layer = 2, .n_embd = 32, .n_head = 2, .mlp_internal_dim_multiplier = 8, .vocab_size = 64};
  std::vector<std::string> lines;
  for (const WeightSpec& weight : Weights(config)) {
    std::string line = weight.name;
    for (int64_t size : weight.shape) line += " " + std::to_string(size);
    lines.push_back(line);
  }
  EXPECT_THAT(lines, ::testing::ElementsAre("embed.weight 64 32", "encoder 2 32 128", "encoder_v 2 32 128",
                                            "decoder 256 32", "lm_head 32 64"));
  EXPECT_EQ(ParameterCount(config), 3 * 256 * 32 + 2 * 64 * 32);
}

TEST(WeightsTest, TheDefaultHasTwentyFiveMillion) {
  EXPECT_EQ(ParameterCount(ModelConfig{}), 3LL * 32768 * 256 + 2 * 256 * 256);
  EXPECT_EQ(StateBytes(ModelConfig{}), 192LL << 20);
}

TEST(RopeFrequenciesTest, FallFromOneTurnInTwoPiTokensAndArePaired) {
  const std::vector<float> frequencies = RopeFrequencies(8192);
  ASSERT_EQ(frequencies.size(), 8192u);
  EXPECT_EQ(frequencies[0], static_cast<float>(1 / (2 * std::numbers::pi)));
  for (size_t j = 0; j < frequencies.size(); j += 2) {
    EXPECT_EQ(frequencies[j], frequencies[j + 1]);
    const double truth = std::exp2(-16.0 * j / 8192) / (2 * std::numbers::pi);
    EXPECT_NEAR(frequencies[j], truth, 2e-6 * truth);  // The exponent itself is rounded to float32.
  }
}

TEST(ModelConfigJsonTest, SurvivesItsJsonForm) {
  const ModelConfig config{.n_layer = 3,
                           .n_embd = 64,
                           .n_head = 4,
                           .mlp_internal_dim_multiplier = 16,
                           .vocab_size = 300,
                           .dropout = 0.1};
  BDH_ASSERT_OK_AND_ASSIGN(const ModelConfig read, ModelConfigFromJson(ToJson(config)));
  EXPECT_EQ(read, config);
}

TEST(ModelConfigJsonTest, TakesAFileThatLeavesDropoutOut) {
  BDH_ASSERT_OK_AND_ASSIGN(const ModelConfig config,
                           ModelConfigFromJson(R"({"n_layer": 2, "n_embd": 32, "n_head": 2,
                             "mlp_internal_dim_multiplier": 8, "vocab_size": 64})"));
  EXPECT_EQ(config.dropout, 0);
  EXPECT_EQ(config.n_embd, 32);
}

TEST(ModelConfigJsonTest, NamesWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "not a JSON object"},
      {"[1]", "not a JSON object"},
      {R"({"n_layer": 2})", "n_embd is missing"},
      {R"({"n_layers": 2})", "n_layers is unknown"},
      {R"({"n_layer": 2.5})", "n_layer has another type"},
      {R"({"n_layer": "2"})", "n_layer has another type"},
      {R"({"n_layer": 99999999999})", "n_layer has another type or size"},
      {R"({"n_layer": 18446744073709551615})", "n_layer has another type or size"},
      {R"({"n_layer":1,"n_embd":32,"n_head":2,"mlp_internal_dim_multiplier":8,"vocab_size":64,"dropout":"x"})",
       "dropout has another type"},
      {R"({"n_layer":0,"n_embd":32,"n_head":2,"mlp_internal_dim_multiplier":8,"vocab_size":64})",
       "n_layer is 0"},
  };
  for (const auto& [text, complaint] : cases) {
    const auto config = ModelConfigFromJson(text);
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_THAT(Complaint(config.status()), HasSubstr(complaint)) << text;
  }
}

}  // namespace
}  // namespace bdh::spec
