// What the store promises, shown on a real one in a real folder: a checkpoint is there whole or not at all,
// nothing is kept twice, tags move atomically, wrong input is refused by name, and a folder that is damaged,
// in use or too new is never taken for a good one.

#include "bdh/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "bdh/base/file.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "store_fixture.h"

namespace bdh::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kA[] = "runs/a/steps/1", kB[] = "runs/a/steps/2", kC[] = "runs/b/steps/1";

class StoreTest : public StoreFixture {
 protected:
  void ExpectEmpty() {
    EXPECT_EQ(store_->totals().checkpoints, 0);
    EXPECT_EQ(store_->totals().stored_bytes, 0);
    EXPECT_EQ(Audit().chunks, 0);
    EXPECT_EQ(Audit().orphans, 0);
  }
  int64_t FolderBytes() {
    int64_t bytes = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path())) {
      if (entry.path().extension() == ".pack" || entry.path().extension() == ".sst")
        bytes += entry.file_size();
    }
    return bytes;
  }
};

TEST_F(StoreTest, WhatWasPutComesBackAlsoAfterARestart) {
  const Content content = SomeContent(kA, 1);
  BDH_ASSERT_OK_AND_ASSIGN(const auto result, Put(*store_, content));
  EXPECT_EQ(result.checkpoint.size_bytes, 300'000 + 100'000 + 8);
  EXPECT_EQ(result.stored_bytes, result.checkpoint.size_bytes);
  EXPECT_EQ(result.checkpoint.digest.size(), 64u);
  ExpectWhole(content);
  Open();
  ExpectWhole(content);
  BDH_ASSERT_OK_AND_ASSIGN(const Checkpoint described, store_->Describe(kA));
  EXPECT_EQ(described.digest, result.checkpoint.digest);
  EXPECT_EQ(described.create_time, absl::FromUnixSeconds(1'000'000'001));
  EXPECT_EQ(described.provenance, "somebody");
  ASSERT_EQ(described.tensors.size(), 4u);
  EXPECT_THAT(described.tensors[2].shape, ElementsAre(3, 0, 2));
  EXPECT_EQ(described.tensors[2].dtype, DType::kF32);
  EXPECT_THAT(described.tensors[3].shape, IsEmpty());
}

TEST_F(StoreTest, PiecesOfAnySizeMakeTheSameCheckpoint) {
  const Content content = SomeContent(kA, 1, 100'000);
  std::string digest;
  for (const size_t piece_bytes : {7000, 65535, 65536, 65537, 1 << 20}) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto result, Put(*store_, content, piece_bytes));
    if (digest.empty()) digest = result.checkpoint.digest;
    EXPECT_EQ(result.checkpoint.digest, digest) << piece_bytes;
    ExpectWhole(content);
  }
}

TEST_F(StoreTest, HowManyHelpNeverShowsInWhatIsKept) {
  Content content = SomeContent(kA, 1, 3'000'000);
  // Equal chunks, so close together that several helpers have them at a time.
  content.AddBytes("repeated", std::string(2'000'000, 'r'));
  const auto put = [&](int helpers) {
    std::filesystem::remove_all(folder_.path() + "/store");
    Store::Options options = SomeOptions();
    options.helper_threads = helpers;
    Open(options);
    const auto result = Put(*store_, content);
    EXPECT_TRUE(result.ok()) << result.status();
    ExpectWhole(content);
    EXPECT_EQ(Audit().orphans, 0);
    return result.ok() ? *result : Upload::Result();
  };
  const Upload::Result alone = put(-1);
  for (const int helpers : {0, 1, 5}) {
    const Upload::Result helped = put(helpers);
    EXPECT_EQ(helped.checkpoint.digest, alone.checkpoint.digest) << helpers;
    EXPECT_EQ(helped.stored_bytes, alone.stored_bytes) << helpers;
  }
}

TEST_F(StoreTest, AnUploadGivenUpWhileHelpersWorkLeavesNothing) {
  Store::Options options = SomeOptions();
  options.helper_threads = 3;
  Open(options);
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const Content content = SomeContent(kA, seed, 1'000'000);
    BDH_ASSERT_OK_AND_ASSIGN(const auto upload, store_->Begin(content.checkpoint));
    BDH_EXPECT_OK(Send(*upload, content));
  }
  ExpectEmpty();
}

TEST_F(StoreTest, ACheckpointWithoutTensorsIsOne) {
  Content content;
  content.checkpoint.name = kA;
  BDH_EXPECT_OK(Put(*store_, content));
  ExpectWhole(content);
}

TEST_F(StoreTest, NothingIsVisibleBeforeTheCommit) {
  const Content content = SomeContent(kA, 1);
  BDH_ASSERT_OK_AND_ASSIGN(auto upload, store_->Begin(content.checkpoint));
  BDH_ASSERT_OK(Send(*upload, content));
  EXPECT_TRUE(absl::IsNotFound(store_->Describe(kA).status()));
  EXPECT_THAT(Names(), IsEmpty());
  upload.reset();
  EXPECT_THAT(Names(), IsEmpty());
  ExpectEmpty();
}

TEST_F(StoreTest, PuttingTheSameTwiceIsTheSameAsOnce) {
  const Content content = SomeContent(kA, 1);
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, Put(*store_, content));
  Content again = content;
  again.checkpoint.provenance = "another host";
  BDH_ASSERT_OK_AND_ASSIGN(const auto second, Put(*store_, again));
  EXPECT_EQ(second.stored_bytes, 0);
  EXPECT_EQ(second.checkpoint.create_time, first.checkpoint.create_time);
  EXPECT_EQ(store_->totals().checkpoints, 1);
  EXPECT_EQ(Audit().orphans, 0);
}

TEST_F(StoreTest, ANameNeverChangesItsContent) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 1)));
  const auto status = Put(*store_, SomeContent(kA, 2)).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  Content other_facts = SomeContent(kA, 1);
  other_facts.checkpoint.facts += "!";
  EXPECT_TRUE(absl::IsAlreadyExists(Put(*store_, other_facts).status()));
  ExpectWhole(SomeContent(kA, 1));
  EXPECT_EQ(Audit().orphans, 0);
}

TEST_F(StoreTest, WhatIsThereAlreadyCostsNoSpace) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 0)));
  const int64_t before = store_->totals().stored_bytes;
  // Seeds 0 and 1 share the tensor "frozen".
  BDH_ASSERT_OK_AND_ASSIGN(const auto second, Put(*store_, SomeContent(kB, 1)));
  EXPECT_EQ(second.stored_bytes, 300'000 + 8);
  EXPECT_EQ(store_->totals().stored_bytes, before + second.stored_bytes);
  BDH_ASSERT_OK_AND_ASSIGN(const auto third, Put(*store_, SomeContent(kC, 1)));
  EXPECT_EQ(third.stored_bytes, 0);
  EXPECT_EQ(third.checkpoint.digest, second.checkpoint.digest);
  EXPECT_EQ(Audit().chunk_bytes, store_->totals().stored_bytes);
}

TEST_F(StoreTest, DeletingFreesWhatNothingElseHolds) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 0)));
  BDH_ASSERT_OK(Put(*store_, SomeContent(kB, 1)));
  BDH_ASSERT_OK_AND_ASSIGN(const int64_t freed, store_->Delete(kA));
  EXPECT_EQ(freed, 300'000 + 8);
  EXPECT_TRUE(absl::IsNotFound(store_->Describe(kA).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->Delete(kA).status()));
  ExpectWhole(SomeContent(kB, 1));
  BDH_ASSERT_OK(store_->Delete(kB).status());
  ExpectEmpty();
}

TEST_F(StoreTest, DeletingGivesTheDiskItsSpaceBack) {
  for (int i = 0; i < 8; ++i) {
    BDH_ASSERT_OK(Put(*store_, SomeContent(CheckpointName("a", i), 4 * i, 3'000'000)));
    store_->Reclaim();
  }
  EXPECT_GT(FolderBytes(), 8 * 3'900'000);
  for (int i = 0; i < 7; ++i) BDH_ASSERT_OK(store_->Delete(CheckpointName("a", i)).status());
  store_->Reclaim();
  EXPECT_LT(FolderBytes(), 8'500'000);
  ExpectWhole(SomeContent(CheckpointName("a", 7), 28, 3'000'000));
}

TEST_F(StoreTest, AnUploadKeepsTheChunksOfACheckpointThatIsDeletedMeanwhile) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 0)));
  const Content same = SomeContent(kB, 0);
  BDH_ASSERT_OK_AND_ASSIGN(auto upload, store_->Begin(same.checkpoint));
  BDH_ASSERT_OK(Send(*upload, same));
  BDH_ASSERT_OK(store_->Delete(kA).status());
  BDH_ASSERT_OK_AND_ASSIGN(const auto result, upload->Commit());
  EXPECT_EQ(result.stored_bytes, result.checkpoint.size_bytes);
  ExpectWhole(same);
  EXPECT_EQ(Audit().chunk_bytes, store_->totals().stored_bytes);

  // The other way: the upload gives up, and the chunks go with it.
  BDH_ASSERT_OK_AND_ASSIGN(auto second, store_->Begin(SomeContent(kC, 0).checkpoint));
  BDH_ASSERT_OK(Send(*second, SomeContent(kC, 0)));
  BDH_ASSERT_OK(store_->Delete(kB).status());
  second.reset();
  ExpectEmpty();
}

TEST_F(StoreTest, AReaderSeesACheckpointThatIsDeletedMeanwhile) {
  const Content content = SomeContent(kA, 1);
  BDH_ASSERT_OK(Put(*store_, content));
  BDH_ASSERT_OK_AND_ASSIGN(auto reader, store_->Read(kA));
  BDH_ASSERT_OK(reader->Next().status());
  BDH_ASSERT_OK(store_->Delete(kA).status());
  store_->Reclaim();
  std::string bytes;
  while (true) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto piece, reader->Next());
    if (!piece.has_value()) break;
    bytes += piece->bytes;
  }
  EXPECT_EQ(bytes.size(), 400'008u - 65536);
}

TEST_F(StoreTest, AReaderTakesOnlyTheTensorsItWants) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 1)));
  BDH_ASSERT_OK_AND_ASSIGN(const Content some, Get(*store_, kA, {.tensors = {"optimizer/step", "frozen"}}));
  EXPECT_THAT(some.bytes, ElementsAre("", testing::SizeIs(100'000), "", testing::SizeIs(8)));
  BDH_ASSERT_OK_AND_ASSIGN(const Content rest,
                           Get(*store_, kA, {.prefixes_excluded = {"optimizer/", "enc"}}));
  EXPECT_THAT(rest.bytes, ElementsAre("", testing::SizeIs(100'000), "", ""));
  const auto status = Get(*store_, kA, {.tensors = {"encoder", "decoder"}}).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("has no tensor \"decoder\""));
}

TEST_F(StoreTest, ListsNewestFirstPageByPage) {
  for (int i = 0; i < 25; ++i) {
    Content content;
    content.checkpoint.name = CheckpointName(i % 5 == 0 ? "other" : "mine", i);
    BDH_ASSERT_OK(Put(*store_, content));
  }
  BDH_ASSERT_OK(store_->SetTag("best", "runs/mine/steps/24"));
  std::vector<std::string> names;
  std::string token;
  int pages = 0;
  do {
    BDH_ASSERT_OK_AND_ASSIGN(const auto page, store_->List("mine", 7, token));
    EXPECT_LE(page.checkpoints.size(), 7u);
    for (const Checkpoint& checkpoint : page.checkpoints) names.push_back(checkpoint.name);
    // What comes or goes meanwhile disturbs nobody.
    BDH_ASSERT_OK(store_->Delete(CheckpointName("other", 5 * pages)).status());
    token = page.next_token;
    ++pages;
  } while (!token.empty());
  EXPECT_EQ(pages, 3);
  ASSERT_EQ(names.size(), 20u);
  EXPECT_EQ(names.front(), "runs/mine/steps/24");
  EXPECT_EQ(names.back(), "runs/mine/steps/1");
  EXPECT_EQ(Names().size(), 22u);
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, store_->List("mine", 1, ""));
  EXPECT_THAT(first.checkpoints[0].tags, ElementsAre("best"));
  for (const int size : {0, -1, 1001})
    EXPECT_TRUE(absl::IsInvalidArgument(store_->List("", size, "").status()));
  for (const char* bad : {"0", "x", "-1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(store_->List("", 1, bad).status())) << bad;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(store_->List("../x", 1, "").status()));
}

TEST_F(StoreTest, TagsMoveOnlyWhenTheyPointWhereOneThinks) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 1)));
  BDH_ASSERT_OK(Put(*store_, SomeContent(kB, 2)));
  BDH_ASSERT_OK_AND_ASSIGN(const Tag set, store_->SetTag("prod/main", kA, "-"));
  EXPECT_EQ(set.checkpoint, kA);
  EXPECT_TRUE(absl::IsAborted(store_->SetTag("prod/main", kB, "-").status()));
  EXPECT_TRUE(absl::IsAborted(store_->SetTag("prod/main", kB, kB).status()));
  EXPECT_TRUE(absl::IsAborted(store_->SetTag("other", kB, kB).status()));
  BDH_EXPECT_OK(store_->SetTag("prod/main", kB, kA));
  BDH_EXPECT_OK(store_->SetTag("alias", "prod/main"));
  BDH_ASSERT_OK_AND_ASSIGN(const Checkpoint described, store_->Describe("alias"));
  EXPECT_EQ(described.name, kB);
  EXPECT_THAT(described.tags, ElementsAre("alias", "prod/main"));
  EXPECT_TRUE(absl::IsNotFound(store_->SetTag("alias", "runs/none/steps/1").status()));
  EXPECT_TRUE(absl::IsNotFound(store_->SetTag("alias", "none").status()));
  Open();
  BDH_ASSERT_OK_AND_ASSIGN(const auto tags, store_->ListTags());
  ASSERT_EQ(tags.size(), 2u);
  EXPECT_EQ(tags[1].name, "prod/main");
  EXPECT_GT(tags[1].update_time, set.update_time);
  BDH_EXPECT_OK(store_->DeleteTag("alias"));
  EXPECT_TRUE(absl::IsNotFound(store_->DeleteTag("alias")));
}

TEST_F(StoreTest, OnlyOneOfManyWinsTheRaceForATag) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 1)));
  std::atomic<int> winners = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { winners += store_->SetTag("latest", kA, "-").ok() ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(winners, 1);
}

TEST_F(StoreTest, ATaggedCheckpointIsNotDeleted) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 1)));
  BDH_ASSERT_OK(store_->SetTag("best", kA));
  const auto status = store_->Delete(kA).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("tag \"best\" points to runs/a/steps/1"));
  BDH_ASSERT_OK(store_->DeleteTag("best"));
  BDH_EXPECT_OK(store_->Delete(kA));
}

TEST_F(StoreTest, NamesAreCheckedEverywhere) {
  for (const char* name : {"", "a", "runs/", "runs//steps/1", "runs/a/steps/", "runs/a/steps/01",
                           "runs/a/steps/-1", "runs/a/steps/1x", "runs/A/steps/1", "runs/../steps/1",
                           "runs/a/b/steps/1", "runs/a/steps/1234567890123456789", "runs/a/steps/1/"}) {
    Content content;
    content.checkpoint.name = name;
    const auto status = Put(*store_, content).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name << status;
    EXPECT_TRUE(absl::IsInvalidArgument(store_->Delete(name).status())) << name;
  }
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 1)));
  for (const std::string& tag : {std::string(), std::string("runs/a"), std::string("A"), std::string("a b"),
                                 std::string("a\n"), std::string(129, 'a')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(store_->SetTag(tag, kA).status())) << tag;
    EXPECT_TRUE(absl::IsInvalidArgument(store_->DeleteTag(tag))) << tag;
  }
  BDH_EXPECT_OK(store_->SetTag(std::string(128, 'a'), kA));
}

struct BadTensor {
  Tensor tensor;
  const char* error;
};

TEST_F(StoreTest, TensorsMustFitTheirShapes) {
  const std::vector<BadTensor> table = {
      {{"x", DType::kF32, {2, 3}, 23}, "size_bytes of tensor \"x\" is 23; its shape and dtype make 24"},
      {{"x", DType::kF32, {}, 0}, "make 4"},
      {{"x", DType::kF32, {-1}, -4}, "negative or too large"},
      {{"x", DType::kF32, {int64_t{1} << 40, int64_t{1} << 40}, 0}, "negative or too large"},
      {{"x", DType::kF32, {0, int64_t{1} << 40, int64_t{1} << 40}, 0}, "negative or too large"},
      {{"x", DType::kU8, std::vector<int64_t>(17, 1), 1}, "17 dimensions"},
      {{"x", static_cast<DType>(0), {1}, 1}, "unknown dtype 0"},
      {{"x", static_cast<DType>(77), {1}, 1}, "unknown dtype 77"},
      {{"", DType::kU8, {1}, 1}, "name has 0 bytes"},
      {{std::string(513, 'x'), DType::kU8, {1}, 1}, "name has 513 bytes"},
      {{"x\n", DType::kU8, {1}, 1}, "control characters"},
      {{"x\xff", DType::kU8, {1}, 1}, "not UTF-8"},
  };
  for (const BadTensor& bad : table) {
    Checkpoint checkpoint{.name = kA, .tensors = {bad.tensor}};
    const auto status = store_->Begin(checkpoint).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.error));
  }
  const Tensor good{"x", DType::kU8, {1}, 1};
  const auto twice = store_->Begin({.name = kA, .tensors = {good, good}}).status();
  EXPECT_THAT(std::string(twice.message()), HasSubstr("\"x\" is listed twice"));
}

TEST_F(StoreTest, ChunksMustComeInOrderAndWhole) {
  const auto begin = [&] { return *store_->Begin(SomeContent(kA, 1).checkpoint); };
  const std::string data(1000, 'x');
  const std::vector<std::pair<std::function<absl::Status(Upload&)>, const char*>> table = {
      {[&](Upload& u) { return u.AddChunk("frozen", 0, data); },
       "out of order or twice; want tensor \"encoder\""},
      {[&](Upload& u) { return u.AddChunk("encoder", 5, data); }, "at offset 5 came out of order"},
      {[&](Upload& u) { return u.AddChunk("unknown", 0, data); }, "tensor \"unknown\""},
      {[&](Upload& u) { return u.AddChunk("encoder", 0, ""); }, "no bytes"},
      {[&](Upload& u) { return u.AddChunk("encoder", 0, std::string(400'000, 'x')); }, "past the end"},
      {[&](Upload& u) { return u.AddChunk("encoder", 0, std::string((1 << 20) + 1, 'x')); },
       "at most 1048576"},
      {[&](Upload& u) {
         BDH_EXPECT_OK(u.AddChunk("encoder", 0, data));
         return u.AddChunk("encoder", 0, data);
       },
       "want tensor \"encoder\" at offset 1000 of 300000"},
      {[&](Upload& u) {
         BDH_EXPECT_OK(Send(u, SomeContent(kA, 1)));
         return u.AddChunk("encoder", 0, data);
       },
       "after all bytes"},
      {[&](Upload& u) { return u.Commit().status(); },
       "ended early: tensor \"encoder\" has 0 of 300000 bytes"},
  };
  for (const auto& [act, error] : table) {
    const auto upload = begin();
    const absl::Status status = act(*upload);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << error;
    EXPECT_THAT(std::string(status.message()), HasSubstr(error));
    EXPECT_FALSE(upload->Commit().ok()) << "an upload that failed cannot be committed: " << error;
  }
  ExpectEmpty();
}

TEST_F(StoreTest, LimitsHold) {
  Store::Options options = SomeOptions();
  options.max_uploads = 2;
  options.max_tensors = 4;
  options.max_tags = 2;
  options.max_checkpoint_bytes = 1'000'000;
  options.max_description_bytes = 5000;
  Open(options);
  const Content good = SomeContent(kA, 1);
  {
    BDH_ASSERT_OK_AND_ASSIGN(const auto first, store_->Begin(good.checkpoint));
    BDH_ASSERT_OK_AND_ASSIGN(const auto second, store_->Begin(good.checkpoint));
    const auto third = store_->Begin(good.checkpoint).status();
    EXPECT_TRUE(absl::IsResourceExhausted(third));
    EXPECT_THAT(std::string(third.message()), HasSubstr("2 uploads are in flight"));
  }
  BDH_EXPECT_OK(Put(*store_, good));
  Content many = SomeContent(kB, 2);
  many.Add("fifth", DType::kU8, {0}, "");
  EXPECT_THAT(std::string(Put(*store_, many).status().message()), HasSubstr("5 tensors; at most 4"));
  const auto large = Put(*store_, SomeContent(kB, 2, 900'000)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(large)) << large;
  Content wordy = SomeContent(kB, 2);
  wordy.checkpoint.facts.assign(6000, 'x');
  EXPECT_THAT(std::string(Put(*store_, wordy).status().message()),
              HasSubstr("the description of runs/a/steps/2"));
  BDH_EXPECT_OK(store_->SetTag("a", kA));
  BDH_EXPECT_OK(store_->SetTag("b", kA));
  BDH_EXPECT_OK(store_->SetTag("b", kA));
  EXPECT_TRUE(absl::IsResourceExhausted(store_->SetTag("c", kA).status()));
}

TEST_F(StoreTest, ANearlyFullDiskRefusesUploadsAndServesTheRest) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 1)));
  Store::Options options = SomeOptions();
  options.min_free_bytes = INT64_MAX;
  Open(options);
  const auto status = Put(*store_, SomeContent(kB, 20)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("nearly full"));
  ExpectWhole(SomeContent(kA, 1));
  BDH_EXPECT_OK(store_->SetTag("t", kA));
  BDH_EXPECT_OK(store_->DeleteTag("t"));
  BDH_EXPECT_OK(store_->Delete(kA));
  ExpectEmpty();
}

TEST_F(StoreTest, ManyWritersReadersAndDeletersDoNotDisturbEachOther) {
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (int worker = 0; worker < 4; ++worker) {
    threads.emplace_back([&, worker] {
      for (int i = 0; i < 12; ++i) {
        // All workers share content, so that they race for chunks, and every third upload is given up.
        const Content content =
            SomeContent(CheckpointName(absl::StrFormat("w%d", worker), i), i % 6, 150'000);
        auto upload = store_->Begin(content.checkpoint);
        if (!upload.ok() || !Send(**upload, content).ok()) ++failures;
        if (i % 3 == 2) continue;
        if (!(*upload)->Commit().ok()) ++failures;
        const auto got = Get(*store_, content.checkpoint.name);
        if (!got.ok() || got->bytes != content.bytes) ++failures;
        if (i % 2 == 1 && !store_->Delete(content.checkpoint.name).ok()) ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  const Store::Audit audit = Audit();
  EXPECT_THAT(audit.damaged, IsEmpty());
  EXPECT_EQ(audit.orphans, 0);
  EXPECT_EQ(audit.chunk_bytes, store_->totals().stored_bytes);
  EXPECT_EQ(audit.checkpoints, store_->totals().checkpoints);
  for (const std::string& name : Names()) BDH_ASSERT_OK(store_->Delete(name).status());
  ExpectEmpty();
}

TEST_F(StoreTest, ASecondStoreOnTheFolderIsRefused) {
  const auto second = Store::Open(SomeOptions()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(second)) << second;
  EXPECT_THAT(std::string(second.message()), HasSubstr("is in use by another bdh-checkpoint-store"));
}

TEST_F(StoreTest, AFolderThatCannotBeMadeIsAnErrorThatNamesIt) {
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/file", "x"));
  Store::Options options = SomeOptions();
  options.folder = folder_.path() + "/file/store";
  const auto status = Store::Open(options).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("/file/store"));
}

}  // namespace
}  // namespace bdh::store
