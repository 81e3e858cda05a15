// Proves that a data set is served while it is tokenized: the order is that of the finished one, a reader
// waits for what is not there yet, a restart goes on, and an end with an error reaches who waits.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "bdh/corpus/sampler.h"
#include "bdh/testing/temp_directory.h"
#include "corpus_testing.h"

namespace bdh::corpus {
namespace {

constexpr int kDocuments = 400;

class StreamingTest : public ::testing::Test {
 protected:
  void Open(const std::string& folder) {
    store_.reset();
    BDH_ASSERT_OK_AND_ASSIGN(store_, DatasetStore::Open({.folder = folder_.path() + "/" + folder,
                                                         .shard_tokens = 300000,
                                                         .checkpoint_tokens = 300000}));
    store_->StartStreaming([this](const std::string& source, DatasetBuilder& builder,
                                  std::stop_token stop) -> absl::StatusOr<Report> {
      EXPECT_EQ(source, "somewhere");
      for (int i = 0; i < kDocuments; ++i) {
        while (i >= released_ && !stop.stop_requested()) absl::SleepFor(absl::Milliseconds(1));
        if (stop.stop_requested()) return absl::CancelledError("asked to stop");
        if (i == broken_at_) return absl::DataLossError("document 7 is broken");
        BDH_RETURN_IF_ERROR(builder.BeginDocument());
        BDH_RETURN_IF_ERROR(builder.Append(Noise(10000, static_cast<uint32_t>(i))));
      }
      return Report{.documents_in = kDocuments};
    });
  }
  absl::StatusOr<std::shared_ptr<const Dataset>> Stream() {
    return store_->Stream({.dataset = {.name = "live"}, .source_hash = "hash", .source = "somewhere"});
  }
  // A window is 1024 blocks of 64 tokens.
  static std::string Batch(const std::shared_ptr<const Dataset>& dataset, int64_t step) {
    const auto sampler = Sampler::Create(dataset, {.seed = 3, .batch_size = 4, .block_size = 64});
    EXPECT_TRUE(sampler.ok()) << sampler.status();
    BDH_EXPECT_OK(sampler->Await(step, {0, 4}, [] { return false; }));
    std::string out(static_cast<size_t>(4 * sampler->row_bytes()), '\0');
    sampler->Fill(step, {0, 4}, out.data());
    return out;
  }

  TempDirectory folder_;
  std::atomic<int> released_ = 0, broken_at_ = -1;
  std::unique_ptr<DatasetStore> store_;
};

TEST_F(StreamingTest, ItServesBeforeAllIsTokenizedAndInTheOrderOfTheWhole) {
  Open("one");
  BDH_ASSERT_OK_AND_ASSIGN(const auto live, Stream());
  EXPECT_FALSE(live->complete());
  released_ = 150;
  std::vector<std::string> batches;
  for (int64_t step = 0; step < 1500; step += 100) {
    if (step == 500) released_ = kDocuments;
    batches.push_back(Batch(live, step));
    if (step < 500) {
      EXPECT_FALSE(live->complete());
    }
  }
  BDH_ASSERT_OK(live->AwaitTokens(Split::kTrain, INT64_MAX, [] { return false; }));
  BDH_ASSERT_OK_AND_ASSIGN(const auto whole, store_->Get("live"));
  EXPECT_TRUE(whole->complete());
  EXPECT_EQ(whole->info().hash, live->info().hash);
  EXPECT_EQ(whole->info().documents, kDocuments);
  EXPECT_GT(whole->tokens(Split::kValidation), 0);
  for (const auto& dataset : {live, whole}) {
    for (size_t i = 0; i < batches.size(); ++i)
      EXPECT_EQ(Batch(dataset, static_cast<int64_t>(i) * 100), batches[i]);
  }
  // All of the first epoch, and no block twice.
  const auto sampler = Sampler::Create(whole, {.seed = 3, .batch_size = 4, .block_size = 64}).value();
  const int64_t blocks = (whole->tokens(Split::kTrain) - 1) / 64;
  std::vector<bool> seen(static_cast<size_t>(blocks));
  for (int64_t sample = 0; sample < blocks; ++sample) {
    const auto place = sampler.PlaceOf(sample / 4, sample % 4);
    EXPECT_EQ(place.position / 64 / 1024, sample / 1024) << "within its window";
    EXPECT_FALSE(seen[static_cast<size_t>(place.position / 64)]);
    seen[static_cast<size_t>(place.position / 64)] = true;
  }
  EXPECT_EQ(sampler.PlaceOf(blocks / 4 + 1, 0).epoch, 1);
}

TEST_F(StreamingTest, ARestartGoesOnWithTheSameOrder) {
  released_ = kDocuments;
  Open("calm");
  BDH_ASSERT_OK_AND_ASSIGN(const auto calm, Stream());
  const std::string first = Batch(calm, 0), later = Batch(calm, 900);
  Open("restarted");
  released_ = 150;
  BDH_ASSERT_OK(Stream());
  EXPECT_EQ(Batch(store_->Get("live").value(), 0), first);
  Open("restarted");
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, store_->Get("live"));
  EXPECT_FALSE(again->complete());
  BDH_ASSERT_OK(again->AwaitTokens(Split::kTrain, 1, [] { return false; }));  // What was there is served.
  EXPECT_EQ(Batch(again, 0), first);
  released_ = kDocuments;
  EXPECT_EQ(Batch(again, 900), later);
}

TEST_F(StreamingTest, AnErrorReachesWhoWaitsAndTheSameSpecTriesAgain) {
  Open("broken");
  released_ = kDocuments;
  broken_at_ = 250;
  BDH_ASSERT_OK_AND_ASSIGN(const auto live, Stream());
  const auto status = live->AwaitTokens(Split::kTrain, INT64_MAX, [] { return false; });
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_FALSE(Batch(live, 0).empty()) << "what is there is served";
  broken_at_ = -1;
  std::shared_ptr<const Dataset> again = live;
  for (int i = 0; i < 10000 && again == live; ++i) {  // The thread that failed may not be at its end yet.
    BDH_ASSERT_OK_AND_ASSIGN(again, Stream());
    absl::SleepFor(absl::Milliseconds(1));
  }
  BDH_EXPECT_OK(again->AwaitTokens(Split::kTrain, INT64_MAX, [] { return false; }));
  EXPECT_TRUE(again->complete());
}

TEST_F(StreamingTest, AReaderThatGoesAwayAndADeletionEndTheWaiting) {
  Open("gone");
  BDH_ASSERT_OK_AND_ASSIGN(const auto live, Stream());
  EXPECT_EQ(live->AwaitTokens(Split::kTrain, 1, [] { return true; }).code(), absl::StatusCode::kCancelled);
  absl::Status waited;
  std::thread waiter([&] { waited = live->AwaitTokens(Split::kTrain, 1, [] { return false; }); });
  BDH_ASSERT_OK(store_->Delete("live"));
  waiter.join();
  EXPECT_EQ(waited.code(), absl::StatusCode::kNotFound) << waited;
  EXPECT_EQ(store_->Get("live").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(StreamingTest, ASecondStoreLeavesTheTokenizingToTheFirst) {
  Open("shared");
  BDH_ASSERT_OK(Stream());
  BDH_ASSERT_OK_AND_ASSIGN(const auto other, DatasetStore::Open({.folder = folder_.path() + "/shared"}));
  other->StartStreaming([](const std::string&, DatasetBuilder&, std::stop_token) -> absl::StatusOr<Report> {
    ADD_FAILURE();
    return absl::CancelledError("");
  });
  const auto there = other->Get("live").status();
  EXPECT_EQ(there.code(), absl::StatusCode::kUnavailable) << there;
  EXPECT_TRUE(absl::StrContains(there.message(), "is being tokenized by another data loader")) << there;
  BDH_ASSERT_OK_AND_ASSIGN(const auto mine, store_->Get("live"));
  released_ = kDocuments;
  BDH_ASSERT_OK(mine->AwaitTokens(Split::kTrain, INT64_MAX, [] { return false; }));
  BDH_ASSERT_OK_AND_ASSIGN(const auto whole, other->Get("live"));
  EXPECT_EQ(whole->info().hash, mine->info().hash);
}

TEST_F(StreamingTest, OtherSourcesUnderTheNameAreRefused) {
  Open("other");
  released_ = kDocuments;
  BDH_ASSERT_OK(Stream());
  const auto status =
      store_->Stream({.dataset = {.name = "live"}, .source_hash = "other", .source = "somewhere"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  const auto lanes =
      store_->Stream({.dataset = {.name = "l", .order = Order::kLanes}, .source_hash = "x", .source = "y"})
          .status();
  EXPECT_TRUE(absl::StrContains(lanes.message(), "leave order, score column and split rule out")) << lanes;
}

}  // namespace
}  // namespace bdh::corpus
