// Proves that a batch depends on nothing but (data set hash, split, seed, step, shape): any start and any
// number of workers give the same rows, the order is pinned for all releases, and every place of the split is
// reached.
#include "bdh/corpus/sampler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "absl/strings/match.h"
#include "bdh/base/text.h"
#include "bdh/testing/temp_directory.h"
#include "corpus_testing.h"

namespace bdh::corpus {
namespace {

using ::testing::ElementsAre;

class SamplerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto options = BuilderOptions(folder_.path() + "/set");
    options.shard_tokens = 1024;  // Rows lie across shards.
    BDH_ASSERT_OK_AND_ASSIGN(dataset_, Build(options, {Noise(7000, 1), Noise(3000, 2)}));
  }

  Sampler Make(Sampler::Options options = {.seed = 7, .batch_size = 6, .block_size = 32}) {
    return Sampler::Create(dataset_, options).value();
  }

  std::string Rows(const Sampler& sampler, int64_t step, RowRange rows) {
    std::string out(static_cast<size_t>(rows.size() * sampler.row_bytes()), '\0');
    sampler.Fill(step, rows, out.data());
    return out;
  }

  TempDirectory folder_;
  std::shared_ptr<const Dataset> dataset_;
};

TEST_F(SamplerTest, ARowIsConsecutiveTokensOfItsSplit) {
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    const Sampler sampler = Make({.split = split, .seed = 3, .batch_size = 4, .block_size = 64});
    const std::string all = Tokens(*dataset_, split);
    for (int64_t step = 0; step < 20; ++step) {
      for (int64_t row = 0; row < 4; ++row) {
        EXPECT_EQ(Rows(sampler, step, {row, row + 1}),
                  all.substr(static_cast<size_t>(sampler.RowPosition(step, row)), 65));
      }
    }
  }
}

TEST_F(SamplerTest, TheSlicesOfAnyWorldTogetherAreTheBatch) {
  for (const int64_t batch : {6, 8, 13}) {
    const Sampler sampler = Make({.seed = 7, .batch_size = batch, .block_size = 32});
    for (int64_t step : {0, 1, 1000}) {
      const std::string whole = Rows(sampler, step, {0, batch});
      for (const int64_t world : {1, 2, 3, 4, 6}) {
        std::string together;
        for (int64_t rank = 0; rank < world; ++rank)
          together += Rows(sampler, step, SliceOf(batch, rank, world));
        EXPECT_EQ(together, whole) << "batch " << batch << " world " << world;
      }
    }
  }
}

TEST_F(SamplerTest, TheOrderOfSamplesDoesNotDependOnTheBatchSize) {
  const Sampler small = Make({.seed = 7, .batch_size = 2, .block_size = 32});
  const Sampler large = Make({.seed = 7, .batch_size = 6, .block_size = 32});
  EXPECT_EQ(Rows(large, 5, {0, 6}),
            Rows(small, 15, {0, 2}) + Rows(small, 16, {0, 2}) + Rows(small, 17, {0, 2}));
}

TEST_F(SamplerTest, TheOrderIsPinned) {
  // These numbers never change: a run that resumes under a newer release must see the same batches. A second
  // implementation, in Python, agreed with them.
  const Sampler sampler = Make();
  std::vector<int64_t> positions;
  for (int64_t row = 0; row < 6; ++row) positions.push_back(sampler.RowPosition(0, row));
  positions.push_back(sampler.RowPosition(1, 0));
  positions.push_back(sampler.RowPosition(1000000, 5));
  EXPECT_THAT(positions, ElementsAre(7503, 6175, 5262, 8447, 8521, 7775, 8390, 8372));
  EXPECT_EQ(Sha256Hex(Rows(sampler, 3, {0, 6})),
            "6e018c9cc01636cd8238e982edf95e0a3af166e937260cc1fae1ea7f3da02bf5");
  const Sampler validation =
      Make({.split = Split::kValidation, .seed = 1337, .batch_size = 2, .block_size = 16});
  EXPECT_THAT(
      (std::vector{validation.RowPosition(0, 0), validation.RowPosition(0, 1), validation.RowPosition(9, 1)}),
      ElementsAre(261, 617, 870));
}

TEST_F(SamplerTest, SeedSplitAndContentEachGiveAnotherOrder) {
  auto options = BuilderOptions(folder_.path() + "/other");
  options.validation_fraction = 0.5;
  BDH_ASSERT_OK_AND_ASSIGN(const auto halves, Build(options, {Noise(2000)}));
  const auto first = [&](Split split, uint64_t seed) {
    return Sampler::Create(halves, {.split = split, .seed = seed, .block_size = 16})->RowPosition(0, 0);
  };
  EXPECT_NE(first(Split::kTrain, 1), first(Split::kTrain, 2));
  EXPECT_NE(first(Split::kTrain, 1), first(Split::kValidation, 1)) << "both splits have 1000 tokens";
  options.folder = folder_.path() + "/third";
  BDH_ASSERT_OK_AND_ASSIGN(const auto other, Build(options, {Noise(2000, 9)}));
  EXPECT_NE(first(Split::kTrain, 1),
            Sampler::Create(other, {.seed = 1, .block_size = 16})->RowPosition(0, 0));
}

TEST_F(SamplerTest, EveryPlaceIsReachedAboutEquallyOften) {
  const int64_t tokens = dataset_->tokens(Split::kTrain);
  const Sampler sampler = Make({.seed = 5, .batch_size = 1000, .block_size = tokens - 10});  // 10 places.
  std::vector<int64_t> hits(10);
  for (int64_t step = 0; step < 100; ++step) {
    for (int64_t row = 0; row < 1000; ++row) ++hits.at(static_cast<size_t>(sampler.RowPosition(step, row)));
  }
  double chi_squared = 0;
  for (const int64_t n : hits) chi_squared += static_cast<double>((n - 10000) * (n - 10000)) / 10000;
  EXPECT_LT(chi_squared, 27.9) << "one uniform generator in a thousand is worse";
}

TEST_F(SamplerTest, ASplitOfExactlyOneRowIsEnoughAndOneLessIsNot) {
  const int64_t tokens = dataset_->tokens(Split::kValidation);
  EXPECT_EQ(tokens, 1000);
  const Sampler sampler = Make({.split = Split::kValidation, .block_size = tokens - 1});
  EXPECT_EQ(Rows(sampler, 12345, {0, 1}), Tokens(*dataset_, Split::kValidation));
  const auto status = Sampler::Create(dataset_, {.split = Split::kValidation, .block_size = tokens}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "has 1000 tokens, and a row of block_size 1000 needs 1001"))
      << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "block_size to 999 or less")) << status;
}

TEST_F(SamplerTest, TheLastPossibleStepIsLikeAnyOther) {
  const Sampler sampler = Make();
  EXPECT_EQ(Rows(sampler, INT64_MAX, {0, 6}).size(), 6u * 33);
}

}  // namespace
}  // namespace bdh::corpus
