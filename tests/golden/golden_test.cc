// BDH here is BDH there: `bdh-lab verify`, the real program, on files that hold the reference's numbers. Then
// the same program on files we have damaged, because a check that cannot fail proves nothing.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "tests/golden/spoiled_file.h"

namespace bdh {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Outcome {
  int exit_status = -1;
  std::string output;  // Standard output and error.
};

Outcome Lab(const std::string& arguments) {
  FILE* pipe = ::popen(absl::StrFormat("'%s/bdh-lab' %s 2>&1", BDH_BIN_DIR, arguments).c_str(), "r");
  Outcome outcome;
  for (char buffer[4096]; size_t got = std::fread(buffer, 1, sizeof(buffer), pipe);) {
    outcome.output.append(buffer, got);
  }
  const int status = ::pclose(pipe);
  outcome.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

class GoldenFiles : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenFiles, HoldTheNumbersWeCompute) {
  const Outcome outcome = Lab(absl::StrFormat("verify '%s'", GoldenPath(GetParam())));
  EXPECT_EQ(outcome.exit_status, 0) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("model logits"));
  EXPECT_THAT(outcome.output, HasSubstr("model gradient encoder_v"));
  EXPECT_THAT(outcome.output, HasSubstr("engine logits"));
  EXPECT_THAT(outcome.output, HasSubstr("engine prefill by 64"));
  EXPECT_THAT(outcome.output, HasSubstr(", 0 failed"));
  EXPECT_THAT(outcome.output, Not(HasSubstr("not checked")));
}

TEST_P(GoldenFiles, AreNearInBf16AndTheErrorIsPrinted) {
  const Outcome outcome = Lab(absl::StrFormat("verify --dtype bf16 --json '%s'", GoldenPath(GetParam())));
  EXPECT_EQ(outcome.exit_status, 0) << outcome.output;
  const auto checks = nlohmann::json::parse(outcome.output).at("checks");
  ASSERT_EQ(checks.size(), 6u);
  for (const auto& check : checks) std::cout << check.at("name") << " " << check.at("difference") << "\n";
  for (const size_t logits : {0, 3}) {  // Rounded weights differ, so an error of 0 were no bfloat16.
    EXPECT_GT(checks[logits].at("difference"), 0) << checks[logits];
  }
  EXPECT_LT(checks[0].at("difference"), checks[3].at("difference"));
}

INSTANTIATE_TEST_SUITE_P(, GoldenFiles, ::testing::Values("tiny", "small", "train", "long"),
                         [](const auto& info) { return std::string(info.param); });

class VerifyTest : public ::testing::Test {
 protected:
  static Outcome Verify(const std::string& path) { return Lab(absl::StrFormat("verify '%s'", path)); }

  SpoiledFile file_;
};

TEST_F(VerifyTest, ADamagedWeightFailsTheChecksItReaches) {
  const std::string path = file_.Write("tiny", [this](auto& tensors, auto&) {
    file_.Change<float>(tensors["weight.encoder"], [](auto& values) { values[1000] += 0.01f; });
  });
  const Outcome outcome = Verify(path);
  EXPECT_EQ(outcome.exit_status, 1) << outcome.output;
  EXPECT_THAT(outcome.output, ::testing::ContainsRegex("model logits +[^ ]+ +[^ ]+ +FAILED"));
  EXPECT_THAT(outcome.output, ::testing::ContainsRegex("engine logits +[^ ]+ +[^ ]+ +FAILED"));
}

TEST_F(VerifyTest, EachKindOfNumberFailsItsOwnCheckAlone) {
  const std::function<void(std::vector<float>&)> shift = [](auto& values) { values[0] += 0.001f; };
  const std::pair<const char*, const char*> cases[] = {{"loss", "model loss"},
                                                       {"grad.decoder", "model gradient decoder"},
                                                       {"train.losses", "training loss at step 1"}};
  for (const auto& [tensor, check] : cases) {
    const Outcome outcome = Verify(file_.Write(
        "train", [&, name = tensor](auto& tensors, auto&) { file_.Change<float>(tensors[name], shift); }));
    EXPECT_EQ(outcome.exit_status, 1) << outcome.output;
    EXPECT_THAT(outcome.output, ::testing::ContainsRegex(absl::StrFormat("%s +[^ ]+ +[^ ]+ +FAILED", check)));
    EXPECT_THAT(outcome.output, HasSubstr(", 1 failed"));
  }
}

TEST_F(VerifyTest, AnotherGreedyTokenIsNamed) {
  const Outcome outcome = Verify(file_.Write("tiny", [this](auto& tensors, auto&) {
    file_.Change<int64_t>(tensors["greedy"], [](auto& values) { values[20] = (values[20] + 1) % 64; });
  }));
  EXPECT_EQ(outcome.exit_status, 1) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("first at token 20: "));
}

TEST_F(VerifyTest, ANumberThatIsNotOneFails) {
  const Outcome outcome = Verify(file_.Write("tiny", [this](auto& tensors, auto&) {
    file_.Change<float>(tensors["logits"], [](auto& values) { values[7] = std::nanf(""); });
  }));
  EXPECT_EQ(outcome.exit_status, 1) << outcome.output;
}

TEST_F(VerifyTest, Bf16FailsWhereTheWeightsAreOthers) {
  const std::string path = file_.Write("tiny", [this](auto& tensors, auto&) {
    file_.Change<float>(tensors["weight.lm_head"], [](auto& values) { values[0] += 0.1f; });
  });
  const Outcome outcome = Lab(absl::StrFormat("verify --dtype bf16 '%s'", path));
  EXPECT_EQ(outcome.exit_status, 1) << outcome.output;
  EXPECT_THAT(outcome.output, ::testing::ContainsRegex("bf16 weights: logits +[^ ]+ +[^ ]+ +FAILED"));
  EXPECT_EQ(Lab(absl::StrFormat("verify --dtype int3 '%s'", path)).exit_status, 2);
}

TEST_F(VerifyTest, JsonSaysTheSame) {
  const Outcome good = Lab(absl::StrFormat("verify --json '%s'", GoldenPath("tiny")));
  EXPECT_EQ(good.exit_status, 0);
  const auto json = nlohmann::json::parse(good.output);
  EXPECT_TRUE(json["ok"]);
  EXPECT_EQ(json["checks"][0]["name"], "model logits");
  EXPECT_LE(json["checks"][0]["difference"], json["checks"][0]["tolerance"]);
}

TEST_F(VerifyTest, AFileCutShortIsRefused) {
  std::filesystem::copy_file(GoldenPath("tiny"), file_.path());
  std::filesystem::resize_file(file_.path(), 100'000);
  const Outcome outcome = Verify(file_.path());
  EXPECT_EQ(outcome.exit_status, 2);
  EXPECT_THAT(outcome.output, HasSubstr("outside the file, which is cut short"));
}

TEST_F(VerifyTest, AFileWithNothingToCheckIsRefused) {
  const Outcome outcome = Verify(file_.Write("tiny", [](auto& tensors, auto&) {
    std::erase_if(tensors, [](const auto& item) { return item.first.substr(0, 7) != "weight."; });
  }));
  EXPECT_EQ(outcome.exit_status, 2);
  EXPECT_THAT(outcome.output, HasSubstr("holds nothing to check"));
}

TEST_F(VerifyTest, WrongUsageIsAnError) {
  EXPECT_EQ(Lab("").exit_status, 2);
  EXPECT_EQ(Lab("verify /no/such/file.safetensors").exit_status, 2);
  const Outcome help = Lab("verify --help");
  EXPECT_EQ(help.exit_status, 0);
  EXPECT_THAT(help.output, HasSubstr("largest absolute"));
}

}  // namespace
}  // namespace bdh
