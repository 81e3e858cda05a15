// Proves that a data set is in the store whole or not at all: through imports that are given up, killed,
// repeated or run against each other, through deletion under readers, reopening, damage and a second owner of
// the folder.
#include "bdh/corpus/dataset_store.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <thread>

#include "absl/strings/match.h"
#include "bdh/base/file.h"
#include "bdh/testing/temp_directory.h"
#include "corpus_testing.h"

namespace bdh::corpus {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class DatasetStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(); }
  void Reopen() {
    store_.reset();
    BDH_ASSERT_OK_AND_ASSIGN(store_,
                             DatasetStore::Open({.folder = folder_.path(), .max_dataset_bytes = 1 << 20}));
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const auto& dataset : store_->List()) names.push_back(dataset->info().name);
    return names;
  }
  size_t Staged() {
    const fs::directory_iterator entries(folder_.path() + "/staging");
    return static_cast<size_t>(std::distance(begin(entries), end(entries)));
  }
  std::string File(const std::string& name) { return folder_.path() + "/datasets/" + name; }

  TempDirectory folder_;
  std::unique_ptr<DatasetStore> store_;
};

TEST_F(DatasetStoreTest, WhatIsCommittedIsThereAfterReopening) {
  BDH_ASSERT_OK(Add(*store_, "beta", {Noise(1000)}));
  BDH_ASSERT_OK(Add(*store_, "alpha", {Noise(2000)}));
  EXPECT_THAT(Names(), ElementsAre("alpha", "beta"));
  Reopen();
  EXPECT_THAT(Names(), ElementsAre("alpha", "beta"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, store_->Get("beta"));
  EXPECT_EQ(Tokens(*dataset, Split::kTrain), Noise(1000).substr(0, 900));
}

TEST_F(DatasetStoreTest, TheSameContentAgainIsTheDataSetThatIsThere) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, Add(*store_, "text", {Noise(1000), Noise(10)}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto second, Add(*store_, "text", {Noise(1000), Noise(10)}));
  EXPECT_EQ(first, second);
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(DatasetStoreTest, OtherContentUnderATakenNameIsRefusedWithAWayOut) {
  BDH_ASSERT_OK(Add(*store_, "text", {Noise(1000)}));
  const auto status = Add(*store_, "text", {Noise(1001)}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(absl::StrContains(status.message(), "another name, or delete")) << status;
  BDH_ASSERT_OK_AND_ASSIGN(const auto import, store_->Import({.name = "text", .validation_fraction = 0.2}));
  BDH_ASSERT_OK(import->BeginDocument());
  BDH_ASSERT_OK(import->Append(Noise(1000)));
  EXPECT_EQ(import->Commit().status().code(), absl::StatusCode::kAlreadyExists) << "another share";
}

TEST_F(DatasetStoreTest, OfTwoImportsOfOneNameTheFirstToCommitWins) {
  std::vector<absl::StatusOr<std::shared_ptr<const Dataset>>> results(4, absl::UnknownError("not run"));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] { results[i] = Add(*store_, "text", {Noise(50000, i % 2)}); });
  }
  for (std::thread& thread : threads) thread.join();
  BDH_ASSERT_OK_AND_ASSIGN(const auto there, store_->Get("text"));
  int ok = 0;
  for (const auto& result : results) {
    if (result.ok())
      EXPECT_EQ((*result)->info().hash, there->info().hash);
    else
      EXPECT_EQ(result.status().code(), absl::StatusCode::kAlreadyExists) << result.status();
    ok += result.ok();
  }
  EXPECT_EQ(ok, 2);
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(DatasetStoreTest, TwoImportsSideBySideThatAgreeBothSucceed) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto slow, store_->Import({.name = "text"}));
  BDH_ASSERT_OK(slow->BeginDocument());
  BDH_ASSERT_OK(slow->Append(Noise(1000)));
  BDH_ASSERT_OK_AND_ASSIGN(const auto fast, Add(*store_, "text", {Noise(1000)}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto same, slow->Commit());
  EXPECT_EQ(same, fast);
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(DatasetStoreTest, AnImportGivenUpLeavesNothing) {
  {
    BDH_ASSERT_OK_AND_ASSIGN(const auto import, store_->Import({.name = "text"}));
    BDH_ASSERT_OK(import->BeginDocument());
    BDH_ASSERT_OK(import->Append(Noise(1000)));
    EXPECT_EQ(Staged(), 1u);
  }
  EXPECT_EQ(Staged(), 0u);
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(DatasetStoreTest, WhatAKillLeftInStagingIsRemovedAtOpen) {
  BDH_ASSERT_OK(Add(*store_, "text", {Noise(1000)}));
  fs::create_directories(folder_.path() + "/staging/0123/deep");
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/staging/0123/train-00000.tokens", Noise(5000)));
  Reopen();
  EXPECT_EQ(Staged(), 0u);
  EXPECT_THAT(Names(), ElementsAre("text"));
}

TEST_F(DatasetStoreTest, ADeletedDataSetStaysReadableToWhoHasIt) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Add(*store_, "text", {Noise(1000)}));
  BDH_ASSERT_OK(store_->Delete("text"));
  EXPECT_EQ(store_->Get("text").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->Delete("text").code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(fs::exists(File("text")));
  EXPECT_EQ(Staged(), 0u);
  BDH_EXPECT_OK(dataset->Verify());
  BDH_ASSERT_OK_AND_ASSIGN(const auto other, Add(*store_, "text", {Noise(500)}));
  EXPECT_NE(other->info().hash, dataset->info().hash) << "the name is free again";
}

TEST_F(DatasetStoreTest, ADeletionDuringAnImportOfTheSameContentIsNotMistakenForSuccess) {
  BDH_ASSERT_OK(Add(*store_, "text", {Noise(1000)}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto import, store_->Import({.name = "text"}));
  BDH_ASSERT_OK(import->BeginDocument());
  BDH_ASSERT_OK(import->Append(Noise(1000)));
  BDH_ASSERT_OK(store_->Delete("text"));
  EXPECT_EQ(import->Commit().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(DatasetStoreTest, ADamagedDataSetHidesNothingElseAndCanBeDeleted) {
  BDH_ASSERT_OK(Add(*store_, "good", {Noise(1000)}));
  BDH_ASSERT_OK(Add(*store_, "bad", {Noise(1000)}));
  fs::resize_file(File("bad/train-00000.tokens"), 100);
  Reopen();
  EXPECT_THAT(Names(), ElementsAre("good"));
  EXPECT_EQ(store_->Get("bad").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store_->Import({.name = "bad"}).status().code(), absl::StatusCode::kDataLoss);
  BDH_EXPECT_OK(store_->Delete("bad"));
  BDH_EXPECT_OK(Add(*store_, "bad", {Noise(1000)}));
}

TEST_F(DatasetStoreTest, AFolderUnderAnotherNameIsNotTakenForThatDataSet) {
  BDH_ASSERT_OK(Add(*store_, "text", {Noise(1000)}));
  store_.reset();
  fs::rename(File("text"), File("renamed"));
  Reopen();
  const auto status = store_->Get("renamed").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(status.message(), "holds data set 'text'")) << status;
}

TEST_F(DatasetStoreTest, WrongSpecsAreRefusedBeforeAnyText) {
  const struct {
    DatasetSpec spec;
    absl::StatusCode code;
    const char* says;
  } kCases[] = {
      {{.name = ""}, absl::StatusCode::kInvalidArgument, "cannot name a data set"},
      {{.name = "../etc"}, absl::StatusCode::kInvalidArgument, "'../etc' cannot name a data set"},
      {{.name = "Upper"}, absl::StatusCode::kInvalidArgument, "[a-z0-9._-]"},
      {{.name = std::string(65, 'a')}, absl::StatusCode::kInvalidArgument, "1 to 64"},
      {{.name = "a", .tokenizer = "gpt2"}, absl::StatusCode::kNotFound, "known ones are: byte"},
      {{.name = "a", .validation_fraction = -0.1}, absl::StatusCode::kInvalidArgument, "want 0 to 0.5"},
      {{.name = "a", .validation_fraction = 0.51}, absl::StatusCode::kInvalidArgument, "is 0.51"},
      {{.name = "a", .validation_fraction = NAN}, absl::StatusCode::kInvalidArgument, "is nan"},
  };
  for (const auto& test : kCases) {
    const auto status = store_->Import(test.spec).status();
    EXPECT_EQ(status.code(), test.code) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), test.says)) << status;
  }
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(DatasetStoreTest, TextOverTheLimitIsRefusedWithTheLimit) {
  const auto status = Add(*store_, "big", {Noise(1 << 20), "x"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(status.message(), "data_loader.max_dataset_bytes, which is 1048576"))
      << status;
  EXPECT_EQ(Staged(), 0u);
  BDH_EXPECT_OK(Add(*store_, "big", {Noise(1 << 20)}));
}

TEST_F(DatasetStoreTest, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  EXPECT_TRUE(absl::StrContains(store_->Get("text").status().message(), "nor any other yet"));
  BDH_ASSERT_OK(Add(*store_, "bible", {Noise(1000)}));
  EXPECT_TRUE(absl::StrContains(store_->Get("text").status().message(), "there are: bible"));
}

TEST_F(DatasetStoreTest, TwoStoresShareAFolderAndSeeWhatTheOtherDoes) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto other, DatasetStore::Open({.folder = folder_.path()}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto mine, Add(*store_, "text", {Noise(1000)}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto theirs, other->Get("text"));
  EXPECT_EQ(theirs->info().hash, mine->info().hash);
  EXPECT_EQ(other->List().size(), 1u);
  BDH_ASSERT_OK(other->Delete("text"));
  EXPECT_EQ(store_->Get("text").status().code(), absl::StatusCode::kNotFound);
  BDH_ASSERT_OK(Add(*other, "text", {Noise(2000)}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto replaced, store_->Get("text"));
  EXPECT_EQ(replaced->info().bytes_in, 2000);
  BDH_EXPECT_OK(mine->Verify());
}

TEST_F(DatasetStoreTest, AStoreThatOpensLeavesTheImportsOfAnotherAlone) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto import, store_->Import({.name = "text"}));
  BDH_ASSERT_OK(import->BeginDocument());
  BDH_ASSERT_OK(import->Append(Noise(1000)));
  BDH_ASSERT_OK_AND_ASSIGN(const auto other, DatasetStore::Open({.folder = folder_.path()}));
  EXPECT_EQ(Staged(), 1u);
  BDH_ASSERT_OK(Add(*other, "text", {Noise(1000)}));
  BDH_EXPECT_OK(import->Commit());
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(DatasetStoreTest, TwoStoresThatMakeOneNameAgreeOrOneIsRefused) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto other, DatasetStore::Open({.folder = folder_.path()}));
  const auto begin = [](DatasetStore& store, uint32_t seed) {
    auto import = store.Import({.name = "text"}).value();
    BDH_EXPECT_OK(import->BeginDocument());
    BDH_EXPECT_OK(import->Append(Noise(1000, seed)));
    return import;
  };
  const auto first = begin(*store_, 1), same = begin(*other, 1), differs = begin(*other, 2);
  BDH_EXPECT_OK(first->Commit());
  BDH_EXPECT_OK(same->Commit());
  EXPECT_EQ(differs->Commit().status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(DatasetStoreTest, AStoreOfRelease01ThatWantsTheFolderAloneIsRefused) {
  EXPECT_FALSE(FileLock::Acquire(folder_.path() + "/LOCK", "taken").ok());
  store_.reset();
  BDH_ASSERT_OK_AND_ASSIGN(const auto alone, FileLock::Acquire(folder_.path() + "/LOCK", "taken"));
  const auto status = DatasetStore::Open({.folder = folder_.path()}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(status.message(), "shares with nobody uses " + folder_.path())) << status;
}

TEST_F(DatasetStoreTest, AMixtureIsItsPartsAndKeepsThem) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto one, Add(*store_, "one", {Noise(1000, 1)}));
  BDH_ASSERT_OK(Add(*store_, "two", {Noise(3000, 2)}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto both, store_->Combine({.name = "both", .order = Order::kEpoch},
                                                            {{"one", "", 2}, {"two", "", 1}}));
  EXPECT_EQ(both->info().train_tokens, 900 + 2700);
  EXPECT_EQ(both->info().order, Order::kEpoch);
  BDH_EXPECT_OK(store_->Combine({.name = "both", .order = Order::kEpoch}, {{"one", "", 2}, {"two", "", 1}}));
  EXPECT_EQ(store_->Combine({.name = "both"}, {{"one", "", 2}, {"two", "", 1}}).status().code(),
            absl::StatusCode::kAlreadyExists);
  Reopen();
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, store_->Get("both"));
  EXPECT_EQ(again->info().hash, both->info().hash);
  ASSERT_EQ(again->parts().size(), 2u);
  EXPECT_EQ(again->parts()[0].dataset->info().hash, one->info().hash);
  const auto needed = store_->Delete("one");
  EXPECT_EQ(needed.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(needed.message(), "is a part of 'both'")) << needed;
  BDH_EXPECT_OK(store_->Delete("both"));
  BDH_EXPECT_OK(store_->Delete("one"));
}

TEST_F(DatasetStoreTest, WrongMixturesAreRefusedInASentence) {
  BDH_ASSERT_OK(Add(*store_, "one", {Noise(1000, 1)}));
  BDH_ASSERT_OK(Add(*store_, "two", {Noise(1000, 2)}));
  BDH_ASSERT_OK(store_->Combine({.name = "view"}, {{"one", "", 1}}));
  const struct {
    std::vector<DatasetInfo::Part> parts;
    std::optional<Order> order;
    const char* says;
  } kCases[] = {
      {{}, {}, "0 parts; want 1 to 64"},
      {{{"none", "", 1}}, {}, "there is no data set 'none'"},
      {{{"one", "", 0}}, {}, "want a number over 0"},
      {{{"one", "", NAN}}, {}, "want a number over 0"},
      {{{"view", "", 1}}, {}, "made of parts itself"},
      {{{"one", "", 1}, {"one", "", 1}}, {}, "is named twice"},
      {{{"one", "", 1}, {"two", "", 5000}}, {}, "less than one sample in 4096"},
      {{{"one", "", 1}}, Order::kScore, "not all parts have scores"},
      {{{"one", "", 1}}, Order::kWindow, "streaming"},
  };
  for (const auto& test : kCases) {
    const auto status = store_->Combine({.name = "mix", .order = test.order}, test.parts).status();
    EXPECT_FALSE(status.ok());
    EXPECT_TRUE(absl::StrContains(status.message(), test.says)) << status;
  }
}

TEST_F(DatasetStoreTest, AFolderThatCannotBeWrittenIsSaid) {
  // A file where a folder should be fails for root too, whom permissions do not stop.
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/file", "x"));
  for (const char* path : {"/file", "/file/below"}) {
    const auto status = DatasetStore::Open({.folder = folder_.path() + path}).status();
    EXPECT_FALSE(status.ok());
    EXPECT_TRUE(absl::StrContains(status.message(), "or set another folder")) << status;
  }
}

}  // namespace
}  // namespace bdh::corpus
