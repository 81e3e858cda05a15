// What bdh-lab takes for a golden file, and how it judges a difference. Its checks themselves are in
// golden_test.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "services/lab/golden_file.h"
#include "services/lab/report.h"
#include "services/lab/tolerance.h"
#include "tests/golden/spoiled_file.h"

namespace bdh::lab {
namespace {

using ::testing::HasSubstr;

TEST(GoldenFileTest, IsReadWhole) {
  BDH_ASSERT_OK_AND_ASSIGN(const GoldenFile golden, ReadGoldenFile(GoldenPath("train")));
  EXPECT_EQ(golden.config.n_embd, 32);
  EXPECT_EQ(golden.weights.size(), 5u);
  EXPECT_EQ(golden.gradients.size(), 5u);
  EXPECT_EQ(golden.frequencies, spec::RopeFrequencies(golden.config.neurons_per_head()));
  ASSERT_TRUE(golden.training);
  EXPECT_EQ(golden.training->learning_rate, 1e-3);
  EXPECT_EQ(golden.training->beta2, 0.999);
  EXPECT_EQ(golden.training->losses.size(), 25u);
  EXPECT_TRUE(golden.unchecked.empty());
}

TEST(GoldenFileTest, ThePromptIsWhatGreedySharesWithTheFirstRow) {
  BDH_ASSERT_OK_AND_ASSIGN(const GoldenFile golden, ReadGoldenFile(GoldenPath("tiny")));
  EXPECT_EQ(golden.greedy.size(), 32u);
  EXPECT_EQ(golden.prompt_length, 8u);
}

TEST(GoldenFileTest, StoredFrequenciesReplaceTheUsualOnes) {
  SpoiledFile file;
  const std::vector<float> frequencies(128, 0.25f);
  const std::string_view bytes(reinterpret_cast<const char*>(frequencies.data()), 512);
  BDH_ASSERT_OK_AND_ASSIGN(const GoldenFile golden,
                           ReadGoldenFile(file.Write("tiny", [&](auto& tensors, auto&) {
                             tensors["freqs"] = {"weight.attn.freqs", "F32", {128}, bytes};
                             tensors["extra"] = {"extra", "F32", {128}, bytes};
                           })));
  EXPECT_EQ(golden.frequencies, frequencies);
  EXPECT_THAT(golden.unchecked, ::testing::ElementsAre("extra"));
}

TEST(GoldenFileTest, OneThatIsWrongIsRefusedWithASentence) {
  SpoiledFile file;
  struct Case {
    std::function<void(SpoiledFile::Tensors&, SpoiledFile::Metadata&)> spoil;
    const char* complaint;
  };
  const auto token = [&](SpoiledFile::Tensors& tensors, const char* name, int64_t value) {
    file.Change<int64_t>(tensors[name], [value](auto& values) { values[3] = value; });
  };
  const Case cases[] = {
      {[](auto&, auto& metadata) { metadata.erase("config"); }, "metadata has no config"},
      {[](auto&, auto& metadata) { metadata["config"] = "{}"; }, "n_layer is missing"},
      {[](auto&, auto& metadata) { metadata["dropout"] = "0.1"; }, "dropout is 0.1"},
      {[](auto&, auto& metadata) { metadata["dropout"] = "none"; }, "dropout is no number"},
      {[](auto&, auto& metadata) { metadata.erase("lr"); }, "metadata lr is missing"},
      {[](auto&, auto& metadata) { metadata["eps"] = "small"; }, "metadata eps is missing or not a number"},
      {[](auto&, auto& metadata) { metadata["betas"] = "0.9"; }, "metadata betas is missing or not two"},
      {[](auto&, auto& metadata) { metadata["steps"] = "24"; }, "steps is 24, but train.batches holds 25"},
      {[](auto& tensors, auto&) { tensors.erase("weight.encoder"); }, "tensor weight.encoder is missing"},
      {[](auto& tensors, auto&) { tensors.erase("grad.encoder"); }, "tensor grad.encoder is missing"},
      {[](auto& tensors, auto&) { tensors.erase("trained.decoder"); }, "tensor trained.decoder is missing"},
      {[](auto& tensors, auto&) { tensors.erase("train.losses"); }, "tensor train.losses is missing"},
      {[](auto& tensors, auto&) { tensors.erase("idx"); }, "tensor idx is missing"},
      {[](auto& tensors, auto&) { tensors.erase("targets"); }, "tensor targets is missing"},
      {[](auto& tensors, auto&) {
         tensors["weight.decoder"].shape = {32, 512};
       },
       "weight.decoder has shape [32, 512]; want [512, 32]"},
      {[](auto& tensors, auto&) { tensors["weight.decoder"].dtype = "I32"; },
       "weight.decoder is of type I32"},
      {[](auto& tensors, auto&) { tensors["idx"].shape = {128}; }, "idx has shape [128]; want [any, any]"},
      {[](auto& tensors, auto&) {
         tensors["targets"].shape = {8, 16};
       },
       "targets has shape [8, 16]; want [4, 32]"},
      {[&](auto& tensors, auto&) { token(tensors, "idx", 96); }, "idx holds token 96; want 0 to 95"},
      {[&](auto& tensors, auto&) { token(tensors, "targets", -1); }, "targets holds token -1"},
      {[&](auto& tensors, auto&) { token(tensors, "train.batches", 1 << 30); }, "train.batches holds token"},
      {[](auto& tensors, auto&) {
         tensors["g"] = {"greedy", "I64", {1, 1}, std::string_view("\1\0\0\0\0\0\0\0", 8)};
       },
       "greedy does not continue a beginning of idx[0]"},
  };
  for (const Case& test : cases) {
    const auto golden = ReadGoldenFile(file.Write("train", test.spoil));
    ASSERT_EQ(golden.status().code(), absl::StatusCode::kInvalidArgument) << test.complaint;
    EXPECT_THAT(std::string(golden.status().message()), HasSubstr(test.complaint));
    EXPECT_THAT(std::string(golden.status().message()), HasSubstr(file.path()));
  }
}

TEST(ToleranceTest, RelativeIsOfTheLargestNumberWanted) {
  EXPECT_TRUE(CompareRelative("x", {1, -4.00007f}, {1, -4}, 2e-5, "x").ok());
  EXPECT_FALSE(CompareRelative("x", {1, -4.00009f}, {1, -4}, 2e-5, "x").ok());
  EXPECT_FALSE(CompareRelative("x", {1}, {1, -4}, 2e-5, "x").ok());
  EXPECT_TRUE(CompareRelative("x", {0, 0}, {0, 0}, 2e-5, "x").ok());
}

TEST(ToleranceTest, WhatIsNoNumberNeverPasses) {
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinity = std::numeric_limits<float>::infinity();
  for (float bad : {nan, infinity, -infinity}) {
    EXPECT_FALSE(CompareRelative("x", {bad, 1, 2}, {0, 1, 2}, 1, "x").ok()) << bad;
    EXPECT_FALSE(CompareRelative("x", {0, 1, 2}, {0, 1, bad}, 1, "x").ok()) << bad;
    EXPECT_FALSE(CompareRelative("x", {0, 1, bad}, {0, 1, bad}, 1, "x").ok()) << bad;
    EXPECT_FALSE(CompareAbsolute("x", bad, 1, 1).ok()) << bad;
    EXPECT_FALSE(CompareAbsolute("x", bad, bad, 1).ok()) << bad;
  }
}

TEST(ToleranceTest, TokensAreCountedAfterThePrompt) {
  EXPECT_TRUE(CompareTokens("x", {9, 2, 3}, {1, 2, 3}, 1).ok());
  const Check check = CompareTokens("x", {1, 5, 6}, {1, 2, 3, 4}, 1);
  EXPECT_EQ(check.difference, 3);
  EXPECT_EQ(check.note, "first at token 1: 5, reference 2");
}

TEST(ReportTest, CountsAndAligns) {
  const Report report{
      .file = "f", .checks = {{"short", 0, 0, ""}, {"much longer", 2, 1, "why"}}, .unchecked = {"t"}};
  EXPECT_EQ(report.failed(), 1);
  EXPECT_THAT(ToText(report), HasSubstr("much longer               2           1  FAILED  why\n"));
  EXPECT_THAT(ToText(report), HasSubstr("not checked: t\nf: 2 checks, 1 failed\n"));
  EXPECT_THAT(ToJson(report), HasSubstr("\"ok\": false"));
}

}  // namespace
}  // namespace bdh::lab
