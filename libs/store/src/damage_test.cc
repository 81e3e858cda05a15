// Damage is never served and never looks like absence: bits are flipped, files cut, replaced and taken away
// under a closed store, and each time the next open refuses with a sentence, or every checkpoint that was
// acknowledged is there and reads back right or as DATA_LOSS.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "bdh/base/file.h"
#include "bdh/store/store.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "database.h"
#include "ledger.h"
#include "store_fixture.h"

namespace bdh::store {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

class DamageTest : public testing::Test {
 protected:
  // Two checkpoints in tables and a pack, one in the log and another pack.
  void SetUp() override {
    {
      const auto store = OpenStore();
      for (int i = 0; i < 2; ++i) BDH_ASSERT_OK(Put(*store, Made(i)));
      BDH_ASSERT_OK(store->SetTag("first", Made(0).checkpoint.name));
    }
    {
      const auto store = OpenStore();
      BDH_ASSERT_OK(store->Flush());
      BDH_ASSERT_OK(Put(*store, Made(2)));
      BDH_ASSERT_OK(store->SetTag("last", Made(2).checkpoint.name));
    }
    fs::copy(good_, kept_, fs::copy_options::recursive);
  }
  static Content Made(int i) { return SomeContent(CheckpointName("a", i), 10 * i, 150'000); }

  absl::StatusOr<std::unique_ptr<Store>> Open() const {
    return Store::Open({.folder = good_, .chunk_bytes = 65536, .min_free_bytes = 0});
  }
  std::unique_ptr<Store> OpenStore() const {
    auto store = Open();
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  void Restore() const {
    fs::remove_all(good_);
    fs::copy(kept_, good_, fs::copy_options::recursive);
  }
  std::vector<std::string> Files(const std::string& extension) const {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(good_ + (extension == ".pack" ? "/packs" : "/db"))) {
      if (entry.path().extension() == extension && entry.file_size() > 0) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  static void FlipBit(const std::string& path, uint64_t offset, int bit) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const char byte = static_cast<char>(file.get());
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(byte ^ (1 << bit)));
  }
  // Returns whether anything was noticed. A store that opens must have everything, right or as DATA_LOSS.
  bool ExpectNothingWrongOrAbsent(const std::string& what) const {
    const auto store = Open();
    if (!store.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(store.status())) << what << ": " << store.status();
      return true;
    }
    bool noticed = false;
    for (int i = 0; i < 3; ++i) {
      const auto got = Get(**store, Made(i).checkpoint.name);
      if (got.ok()) {
        EXPECT_TRUE(got->bytes == Made(i).bytes) << what;
        continue;
      }
      noticed = true;
      EXPECT_TRUE(absl::IsDataLoss(got.status())) << what << ": " << got.status();
      EXPECT_THAT(std::string(got.status().message()), HasSubstr(Made(i).checkpoint.name)) << what;
    }
    const auto tags = (*store)->ListTags();
    EXPECT_TRUE(tags.ok() ? tags->size() == 2 : absl::IsDataLoss(tags.status())) << what;
    return noticed;
  }

  TempDirectory folder_;
  const std::string good_ = folder_.path() + "/store", kept_ = folder_.path() + "/kept";
};

TEST_F(DamageTest, AFlippedBitAnywhereIsNoticedOrHarmless) {
  const char* seed = std::getenv("BDH_DAMAGE_SEED");  // Other bits than the usual ones.
  std::mt19937_64 random(seed != nullptr ? std::strtoull(seed, nullptr, 10) : 20260801);
  for (const char* extension : {".log", ".pack", ".sst", ""}) {
    int noticed = 0;
    for (const std::string& file : Files(extension)) {
      const uint64_t size = fs::file_size(file);
      for (int i = 0; i < 2; ++i) {
        const uint64_t offset = random() % size;
        const int bit = static_cast<int>(random() % 8);
        FlipBit(file, offset, bit);
        const std::string what = absl::StrFormat("%s bit %d of byte %d", file, bit, offset);
        noticed += ExpectNothingWrongOrAbsent(what) ? 1 : 0;
        Restore();
      }
    }
    // "": MANIFEST, CURRENT and IDENTITY; the last is not read.
    EXPECT_GT(noticed, 0) << "no flip in any '" << extension << "' file was noticed";
  }
}

TEST_F(DamageTest, ADamagedChunkIsNamedAndTheRestIsServed) {
  const std::vector<std::string> packs = Files(".pack");
  ASSERT_FALSE(packs.empty());
  FlipBit(packs.front(), fs::file_size(packs.front()) / 4, 3);
  const auto store = OpenStore();
  ASSERT_NE(store, nullptr);
  std::set<int> damaged;
  for (int i = 0; i < 3; ++i) {
    const auto got = Get(*store, Made(i).checkpoint.name);
    if (got.ok()) continue;
    damaged.insert(i);
    EXPECT_TRUE(absl::IsDataLoss(got.status()));
    EXPECT_THAT(std::string(got.status().message()),
                testing::MatchesRegex("tensor \"(encoder|frozen)\" of runs/a/steps/[01]: a chunk .*"));
  }
  ASSERT_EQ(damaged.size(), 1u);
  BDH_ASSERT_OK_AND_ASSIGN(const auto audit, store->Check());
  EXPECT_THAT(audit.damaged, testing::Contains(HasSubstr("of runs/a/steps/")));

  // Bytes that come again are written again, not trusted: they heal the old checkpoint too.
  Content again = Made(*damaged.begin());
  again.checkpoint.name = "runs/b/steps/0";
  BDH_ASSERT_OK(Put(*store, again));
  BDH_ASSERT_OK_AND_ASSIGN(const auto healed, store->Check());
  EXPECT_THAT(healed.damaged, IsEmpty());
  BDH_EXPECT_OK(Get(*store, Made(*damaged.begin()).checkpoint.name));
}

TEST_F(DamageTest, ACutOrLostFileIsNoticed) {
  for (const char* extension : {".log", ".pack", ".sst"}) {
    int noticed = 0;
    for (const std::string& file : Files(extension)) {
      fs::resize_file(file, fs::file_size(file) / 2);
      noticed += ExpectNothingWrongOrAbsent(file + " cut") ? 1 : 0;
      Restore();
      fs::remove(file);
      noticed += ExpectNothingWrongOrAbsent(file + " gone") ? 1 : 0;
      Restore();
    }
    EXPECT_GT(noticed, 0) << extension;
  }
}

TEST_F(DamageTest, LookingAtADamagedLogDoesNotMakeItWorse) {
  const std::string log = Files(".log").back();
  const uint64_t size = fs::file_size(log);
  FlipBit(log, size / 2, 0);
  for (int i = 0; i < 2; ++i) {
    const auto status = Open().status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("changes are lost"));
  }
  FlipBit(log, size / 2, 0);
  EXPECT_FALSE(ExpectNothingWrongOrAbsent("repaired"));
}

TEST_F(DamageTest, ALostDatabaseIsNotANewOne) {
  fs::remove(good_ + "/db/CURRENT");
  EXPECT_TRUE(absl::IsDataLoss(Open().status())) << Open().status();
  fs::remove_all(good_ + "/db");
  EXPECT_TRUE(absl::IsDataLoss(Open().status())) << Open().status();
  // Also without the second witness.
  Restore();
  fs::remove(good_ + "/high_water");
  fs::remove(good_ + "/db/CURRENT");
  EXPECT_TRUE(absl::IsDataLoss(Open().status())) << Open().status();
}

TEST_F(DamageTest, AnOlderCopyOfTheDatabaseIsNoticed) {
  const std::string newer = folder_.path() + "/newer";
  {
    const auto store = OpenStore();
    BDH_ASSERT_OK(store->DeleteTag("last"));
  }
  fs::copy(good_ + "/high_water", newer);
  Restore();
  fs::copy(newer, good_ + "/high_water", fs::copy_options::overwrite_existing);
  const auto status = Open().status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("its last 1 changes are lost"));
}

TEST_F(DamageTest, AFolderOfANewerVersionIsRefused) {
  {
    BDH_ASSERT_OK_AND_ASSIGN(const auto database,
                             Database::Open(SystemFiles(), good_ + "/db", Database::Mode::kReadWrite, false));
    BDH_ASSERT_OK_AND_ASSIGN(const std::string bytes, database->Get(Table::kState, kStateKey));
    v1::StoredState state;
    ASSERT_TRUE(state.ParseFromString(bytes));
    EXPECT_EQ(state.format(), 2u);
    state.set_format(3);
    rocksdb::WriteBatch batch;
    batch.Put((*database)[Table::kState], kStateKey, state.SerializeAsString());
    BDH_ASSERT_OK(database->WriteDurably(batch));
  }
  const auto status = Open().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("format 3 by a newer version; this one knows 2"));
}

TEST_F(DamageTest, UnfinishedWorkOfADeadProcessIsFinishedAtOpen) {
  {
    // What a kill leaves: a chunk nobody claimed, and a deletion that had only begun.
    BDH_ASSERT_OK_AND_ASSIGN(const auto database,
                             Database::Open(SystemFiles(), good_ + "/db", Database::Mode::kReadWrite, false));
    Sha256 sha;
    const Digest digest = sha.Of("orphan");
    rocksdb::WriteBatch batch;
    v1::StoredChunk where;
    where.set_pack(77);
    batch.Put((*database)[Table::kIndex], ToSlice(digest.view()), where.SerializeAsString());
    batch.Put((*database)[Table::kPending], "c" + std::string(digest.view()), "");
    BDH_ASSERT_OK(database->WriteDurably(batch));
  }
  const auto store = OpenStore();
  ASSERT_NE(store, nullptr);
  BDH_ASSERT_OK_AND_ASSIGN(const auto audit, store->Check());
  EXPECT_EQ(audit.orphans, 0);
  EXPECT_THAT(audit.damaged, IsEmpty());
}

}  // namespace
}  // namespace bdh::store
