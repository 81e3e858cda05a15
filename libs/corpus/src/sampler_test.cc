// Proves that a batch depends on nothing but (data set hash, split, seed, step, shape): any start and any
// number of workers give the same rows, the order is pinned for all releases, and every place of the split is
// reached.
#include "bdh/corpus/sampler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
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
                  all.substr(static_cast<size_t>(sampler.PlaceOf(step, row).position), 65));
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
  for (int64_t row = 0; row < 6; ++row) positions.push_back(sampler.PlaceOf(0, row).position);
  positions.push_back(sampler.PlaceOf(1, 0).position);
  positions.push_back(sampler.PlaceOf(1000000, 5).position);
  EXPECT_THAT(positions, ElementsAre(7503, 6175, 5262, 8447, 8521, 7775, 8390, 8372));
  EXPECT_EQ(Sha256Hex(Rows(sampler, 3, {0, 6})),
            "6e018c9cc01636cd8238e982edf95e0a3af166e937260cc1fae1ea7f3da02bf5");
  const Sampler validation =
      Make({.split = Split::kValidation, .seed = 1337, .batch_size = 2, .block_size = 16});
  EXPECT_THAT((std::vector{validation.PlaceOf(0, 0).position, validation.PlaceOf(0, 1).position,
                           validation.PlaceOf(9, 1).position}),
              ElementsAre(261, 617, 870));
}

TEST_F(SamplerTest, SeedSplitAndContentEachGiveAnotherOrder) {
  auto options = BuilderOptions(folder_.path() + "/other");
  options.validation_fraction = 0.5;
  BDH_ASSERT_OK_AND_ASSIGN(const auto halves, Build(options, {Noise(2000)}));
  const auto first = [&](Split split, uint64_t seed) {
    return Sampler::Create(halves, {.split = split, .seed = seed, .block_size = 16})->PlaceOf(0, 0).position;
  };
  EXPECT_NE(first(Split::kTrain, 1), first(Split::kTrain, 2));
  EXPECT_NE(first(Split::kTrain, 1), first(Split::kValidation, 1)) << "both splits have 1000 tokens";
  options.folder = folder_.path() + "/third";
  BDH_ASSERT_OK_AND_ASSIGN(const auto other, Build(options, {Noise(2000, 9)}));
  EXPECT_NE(first(Split::kTrain, 1),
            Sampler::Create(other, {.seed = 1, .block_size = 16})->PlaceOf(0, 0).position);
}

TEST_F(SamplerTest, EveryPlaceIsReachedAboutEquallyOften) {
  const int64_t tokens = dataset_->tokens(Split::kTrain);
  const Sampler sampler = Make({.seed = 5, .batch_size = 1000, .block_size = tokens - 10});  // 10 places.
  std::vector<int64_t> hits(10);
  for (int64_t step = 0; step < 100; ++step) {
    for (int64_t row = 0; row < 1000; ++row)
      ++hits.at(static_cast<size_t>(sampler.PlaceOf(step, row).position));
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

// What holds in every order, over every kind of data set.
class OrderTest : public ::testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override {
    BDH_ASSERT_OK_AND_ASSIGN(store_, DatasetStore::Open({.folder = folder_.path(), .shard_tokens = 1024}));
    BDH_ASSERT_OK_AND_ASSIGN(const auto one, AddScored("one", 60, 1));
    BDH_ASSERT_OK_AND_ASSIGN(const auto two, AddScored("two", 30, 100));
    BDH_ASSERT_OK_AND_ASSIGN(const auto both,
                             store_->Combine({.name = "both"}, {{"one", "", 3}, {"two", "", 1}}));
    datasets_ = {one, two, both};
    BDH_ASSERT_OK_AND_ASSIGN(order_, ParseOrder(GetParam()));
  }

  // Documents of 50 to 350 bytes; the later, the lower their score.
  absl::StatusOr<std::shared_ptr<const Dataset>> AddScored(const std::string& name, int documents,
                                                           uint32_t seed) {
    BDH_ASSIGN_OR_RETURN(const auto import, store_->Import({.name = name, .scored = true}));
    for (int i = 0; i < documents; ++i) {
      BDH_RETURN_IF_ERROR(import->BeginDocument(-i));
      BDH_RETURN_IF_ERROR(
          import->Append(Noise(50 + static_cast<size_t>(i * 37 % 300), seed + static_cast<uint32_t>(i))));
    }
    return import->Commit();
  }

  Sampler Make(const std::shared_ptr<const Dataset>& dataset, int64_t batch = 8, int64_t block = 16,
               uint64_t seed = 7) {
    return Sampler::Create(dataset, {.seed = seed, .batch_size = batch, .block_size = block, .order = order_})
        .value();
  }
  static std::string Rows(const Sampler& sampler, int64_t step, RowRange rows) {
    std::string out(static_cast<size_t>(rows.size() * sampler.row_bytes()), '\0');
    sampler.Fill(step, rows, out.data());
    return out + sampler.DocumentBegins(step, rows) + sampler.RowResets(step, rows);
  }

  TempDirectory folder_;
  std::unique_ptr<DatasetStore> store_;
  std::vector<std::shared_ptr<const Dataset>> datasets_;
  Order order_ = Order::kRandom;
};

TEST_P(OrderTest, TheSamplesOfAllRanksTogetherAreTheSameForEveryWorld) {
  for (const auto& dataset : datasets_) {
    const Sampler sampler = Make(dataset);
    for (const int64_t step : {0, 1, 17, 123456}) {
      std::string whole;
      for (int64_t row = 0; row < 8; ++row) whole += Rows(sampler, step, {row, row + 1});
      for (const int64_t world : {1, 2, 3, 8}) {
        std::string together;
        for (int64_t rank = 0; rank < world; ++rank) {
          const RowRange slice = SliceOf(8, rank, world);
          // Row by row, because flags are bits of a whole slice.
          for (int64_t row = slice.begin; row < slice.end; ++row)
            together += Rows(sampler, step, {row, row + 1});
          std::string tokens(static_cast<size_t>(slice.size() * sampler.row_bytes()), '\0');
          sampler.Fill(step, slice, tokens.data());
          EXPECT_EQ(tokens.substr(0, 17), Rows(sampler, step, {slice.begin, slice.begin + 1}).substr(0, 17));
        }
        EXPECT_EQ(together, whole) << dataset->info().name << " world " << world;
      }
    }
  }
}

TEST_P(OrderTest, AnyCursorGoesOnLikeTheUninterruptedStream) {
  for (const auto& dataset : datasets_) {
    std::vector<std::string> whole;
    const Sampler uninterrupted = Make(dataset);
    for (int64_t step = 0; step < 300; ++step) whole.push_back(Rows(uninterrupted, step, {0, 8}));
    for (const int64_t cursor : {1, 100, 299}) {
      const Sampler again = Make(dataset);
      for (int64_t step = cursor; step < 300; ++step) {
        ASSERT_EQ(Rows(again, step, {0, 8}), whole[static_cast<size_t>(step)]) << step;
      }
    }
  }
}

// Of shapes, seeds, splits, weights and steps by chance: all workers together have the batch, a reader that
// begins anywhere has what the uninterrupted one has, and each part of a mixture its share, give or take one.
TEST_P(OrderTest, WhateverTheShapeWorldsAgreeCursorsGoOnAndPartsHaveTheirShare) {
  std::mt19937_64 random(20240605);
  const auto draw = [&](int64_t from, int64_t to) {
    return from + static_cast<int64_t>(random() % static_cast<uint64_t>(to - from + 1));
  };
  for (int round = 0; round < 40; ++round) {
    const double first = static_cast<double>(draw(1, 9)), second = static_cast<double>(draw(1, 9));
    const std::string name = absl::StrFormat("mix%d", round);
    BDH_ASSERT_OK_AND_ASSIGN(const auto mixture,
                             store_->Combine({.name = name}, {{"one", "", first}, {"two", "", second}}));
    for (const auto& dataset : {datasets_[0], mixture}) {
      const Sampler::Options options = {.split = draw(0, 3) == 0 ? Split::kValidation : Split::kTrain,
                                        .seed = random(),
                                        .batch_size = draw(2, 13),
                                        .block_size = draw(2, 24),
                                        .order = order_};
      const auto made = Sampler::Create(dataset, options);
      if (!made.ok()) continue;  // More lanes than text.
      const Sampler& sampler = *made;
      const int64_t batch = options.batch_size;
      for (const int64_t step : {int64_t{0}, draw(0, 100), draw(0, 1'000'000)}) {
        std::string whole(static_cast<size_t>(batch * sampler.row_bytes()), '\0');
        sampler.Fill(step, {0, batch}, whole.data());
        for (const int64_t world : {1, 2, 3, 8}) {
          std::string together(whole.size(), '\0'), resets;
          for (int64_t rank = 0; rank < std::min(world, batch); ++rank) {
            const RowRange slice = SliceOf(batch, rank, std::min(world, batch));
            sampler.Fill(step, slice, together.data() + slice.begin * sampler.row_bytes());
            resets += sampler.RowResets(step, slice);
          }
          ASSERT_EQ(together, whole) << dataset->info().name << " world " << world << " step " << step;
          ASSERT_EQ(resets, sampler.RowResets(step, {0, batch}));
        }
      }
      // Another sampler begins at any cursor and goes on alike.
      BDH_ASSERT_OK_AND_ASSIGN(const Sampler again, Sampler::Create(dataset, options));
      const int64_t cursor = draw(1, 500);
      for (int64_t step = cursor; step < cursor + 5; ++step) {
        ASSERT_EQ(Rows(again, step, {0, batch}), Rows(sampler, step, {0, batch})) << step;
      }
      if (dataset != mixture || order_ == Order::kLanes) continue;
      double of_first = 0;
      for (int64_t step = 0, sample = 0; step < 40; ++step) {
        for (int64_t row = 0; row < batch; ++row) {
          of_first += sampler.PlaceOf(step, row).part == 0 ? 1 : 0;
          const double share = static_cast<double>(++sample) * first / (first + second);
          // Shares are rounded to 1/4096.
          ASSERT_NEAR(of_first, share, 1.001 + static_cast<double>(sample) / 4096) << sample;
        }
      }
    }
  }
}

TEST_P(OrderTest, EveryBlockComesExactlyOnceAnEpoch) {
  if (order_ == Order::kRandom) GTEST_SKIP() << "it knows no epochs";
  const auto& dataset = datasets_[0];
  const Sampler sampler = Make(dataset, /*batch=*/5, /*block=*/16);
  std::map<int64_t, std::vector<int64_t>> begins;
  for (int64_t step = 0; begins.size() < 4; ++step) {
    for (int64_t row = 0; row < 5; ++row) {
      const auto place = sampler.PlaceOf(step, row);
      begins[place.epoch].push_back(place.position);
    }
  }
  const int64_t tokens = dataset->tokens(Split::kTrain);
  const size_t blocks = order_ == Order::kLanes ? 5 * static_cast<size_t>((tokens - 1) / 5 / 16)
                                                : static_cast<size_t>((tokens - 1) / 16);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    auto& places = begins[epoch];
    EXPECT_EQ(places.size(), blocks);
    std::sort(places.begin(), places.end());
    for (size_t i = 1; i < places.size(); ++i) ASSERT_GE(places[i] - places[i - 1], 16) << "no token twice";
    EXPECT_GE(places.front(), 0);
    EXPECT_LE(places.back() + 17, tokens);
  }
}

TEST_P(OrderTest, AMixtureTakesFromEachPartAsOftenAsItsWeightSays) {
  const Sampler sampler = Make(datasets_[2]);
  int64_t of_first = 0;
  for (int64_t step = 0; step < 512; ++step) {
    for (int64_t row = 0; row < 8; ++row) of_first += sampler.PlaceOf(step, row).part == 0;
  }
  EXPECT_EQ(of_first, 512 * 8 * 3 / 4);
}

TEST_P(OrderTest, FlagsSayWhereDocumentsBegin) {
  const auto& dataset = datasets_[1];
  std::set<int64_t> begins;
  for (int64_t document = 0, begin = 0; document < dataset->info().documents; ++document) {
    begins.insert(begin);
    begin = dataset->document_end(document).train;
  }
  const bool reordered = order_ == Order::kLength || order_ == Order::kScore;
  const Sampler sampler = Make(dataset);
  int64_t found = 0;
  for (int64_t step = 0; step < 20; ++step) {
    const std::string bits = sampler.DocumentBegins(step, {0, 8});
    ASSERT_EQ(bits.size(), 8u * 17 / 8);
    for (int64_t token = 0; token < 8 * 17; ++token) {
      const bool flag = bits[static_cast<size_t>(token / 8)] >> (token % 8) & 1;
      found += flag;
      if (reordered) continue;  // Positions are of another layout.
      EXPECT_EQ(flag, begins.contains(sampler.PlaceOf(step, token / 17).position + token % 17)) << token;
    }
  }
  EXPECT_GT(found, 0);
}

INSTANTIATE_TEST_SUITE_P(All, OrderTest,
                         ::testing::Values("random", "epoch", "sequential", "lanes", "length", "score"),
                         [](const auto& info) { return std::string(info.param); });

class OrdersTest : public SamplerTest {
 protected:
  Sampler In(Order order, int64_t batch = 6, int64_t block = 32) {
    return Sampler::Create(dataset_, {.seed = 7, .batch_size = batch, .block_size = block, .order = order})
        .value();
  }
};

TEST_F(OrdersTest, SequentialIsTheTextFromItsBeginning) {
  const Sampler sampler = In(Order::kSequential, 1);
  std::string text;
  for (int64_t step = 0; step < 281; ++step) text += Rows(sampler, step, {0, 1}).substr(0, 32);
  EXPECT_EQ(text, Tokens(*dataset_, Split::kTrain).substr(0, text.size()));
  EXPECT_EQ(sampler.PlaceOf(281, 0).position, 0) << "the next epoch";
}

TEST_F(OrdersTest, EachLaneIsOneStreamAndItsRestartIsFlagged) {
  const Sampler sampler = In(Order::kLanes, 4);
  const std::string all = Tokens(*dataset_, Split::kTrain);
  const int64_t length = 8999 / 4, blocks = length / 32;
  for (int64_t lane = 0; lane < 4; ++lane) {
    std::string text;
    for (int64_t step = 0; step < blocks; ++step) {
      text += Rows(sampler, step, {lane, lane + 1}).substr(0, 32);
      EXPECT_EQ(sampler.RowResets(step, {lane, lane + 1}), std::string(1, step == 0 ? '\1' : '\0'));
    }
    EXPECT_EQ(text, all.substr(static_cast<size_t>(lane * length), text.size()));
    EXPECT_TRUE(sampler.PlaceOf(blocks, lane).reset);
  }
  EXPECT_EQ(In(Order::kEpoch).RowResets(0, {0, 6}), "") << "no other order carries state";
}

TEST_F(OrdersTest, AnEpochIsShuffledAnewEveryTime) {
  const Sampler sampler = In(Order::kEpoch, 1);
  int same = 0;
  for (int64_t step = 0; step < 281; ++step) {
    same += sampler.PlaceOf(step, 0).position / 32 == sampler.PlaceOf(step + 281, 0).position / 32;
  }
  EXPECT_LT(same, 15);
}

TEST_F(OrdersTest, ACurriculumGoesFromShortToLongAndFromLowToHigh) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto store, DatasetStore::Open({.folder = folder_.path() + "/store"}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto import,
                           store->Import({.name = "abc", .validation_fraction = 0, .scored = true}));
  for (const auto& [text, score] :
       {std::pair("cccccccc", 1.0), {"aa", 3.0}, {"bbbb", 2.0}, {"dddddddddd", 0.5}}) {
    BDH_ASSERT_OK(import->BeginDocument(score));
    BDH_ASSERT_OK(import->Append(text));
  }
  BDH_ASSERT_OK_AND_ASSIGN(dataset_, import->Commit());
  const auto text = [&](Order order) { return Rows(In(order, 1, 23), 0, {0, 1}); };
  EXPECT_EQ(text(Order::kLength), "aabbbbccccccccdddddddddd");
  EXPECT_EQ(text(Order::kScore), "ddddddddddccccccccbbbbaa");
}

TEST_F(OrdersTest, WhatDoesNotFitIsRefusedInASentence) {
  const struct {
    Sampler::Options options;
    const char* says;
  } kCases[] = {
      {{.order = Order::kScore}, "have no score to order by"},
      {{.order = Order::kWindow}, "is not streaming"},
      {{.batch_size = 300, .block_size = 32, .order = Order::kLanes}, "too few for 300 lanes"},
      {{.block_size = 9000, .order = Order::kEpoch}, "needs 9001"},
  };
  for (const auto& test : kCases) {
    const auto status = Sampler::Create(dataset_, test.options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), test.says)) << status;
  }
}

}  // namespace
}  // namespace bdh::corpus
