// The store on a disk that loses power: after every cut all that was acknowledged is there, bit for bit; what
// was not is there wholly or not at all; nothing points to what is missing, and no byte is left that nothing
// holds. The oracle stands outside the store and the disk and writes each act down before it begins.
//
// Each life of a store has kCuts cuts. BDH_STRESS_SEED=n repeats one, BDH_STRESS_LIVES=n lives as many with
// fresh seeds; a seed that failed is printed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "absl/strings/str_format.h"
#include "bdh/store/store.h"
#include "bdh/testing/random_bytes.h"
#include "bdh/testing/status_matchers.h"
#include "libs/store/src/digest.h"
#include "libs/store/src/store_fixture.h"
#include "tests/faults/faulty_disk.h"

namespace bdh::faults {
namespace {

using store::Checkpoint;
using store::Content;
using store::Store;

constexpr int kParts = 4;        // Tests of their own, so that they run side by side.
constexpr uint64_t kLives = 32;  // In each part.
constexpr int kCuts = 8;
constexpr int64_t kChunk = 512;

uint64_t NumberFrom(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

// The bytes follow from the name. Steps that are near share tensors, so that chunks are shared and bases
// differ little.
Content ContentOf(const std::string& name) {
  const uint64_t step = std::strtoull(name.c_str() + name.rfind('/') + 1, nullptr, 10);
  Content content;
  content.checkpoint.name = name;
  content.checkpoint.facts = absl::StrFormat("step %d", step);
  content.AddBytes("frozen", RandomBytes(step / 4, 1500));
  std::string moving = RandomBytes(step / 8 + 1000, 2000 + step % 3 * 700);
  for (size_t i = 0; i < moving.size(); i += 97) moving[i] = static_cast<char>(step);
  content.AddBytes("moving", std::move(moving));
  return content;
}

std::string BlobOf(uint64_t number) {
  return RandomBytes(number / 2 + 5000, 900 + number % 5 * 600);
}

// What may be there. An act that was begun and not acknowledged leaves both what was and what was to be.
struct Oracle {
  // By name; nullopt: may be absent.
  std::map<std::string, std::set<bool>> checkpoints;
  std::map<std::string, std::set<std::string>> tags;     // "": absent.
  std::map<std::string, std::set<std::string>> records;  // "": absent.
};

class Life {
 public:
  Life(uint64_t seed, FaultyDisk& disk) : random_(seed), disk_(disk) {
    const Store::Compression kinds[] = {Store::Compression::kNone, Store::Compression::kZstd,
                                        Store::Compression::kDelta};
    compression_ = kinds[seed % 3];
  }

  absl::Status Open() {
    auto store = Store::Open({.folder = "/store",
                              .chunk_bytes = kChunk,
                              .min_free_bytes = 0,
                              .compression = compression_,
                              .pack_bytes = 6000,
                              .files = &disk_.files(),
                              .env = disk_.env()});
    if (store.ok()) store_ = *std::move(store);
    return store.status();
  }
  void Close() { store_.reset(); }

  // Acts until the power goes, or so many acts are done.
  void Act(int acts) {
    for (int i = 0; i < acts && !disk_.is_cut(); ++i) {
      switch (random_() % 10) {
        case 0:
          Delete();
          break;
        case 1:
          Tag();
          break;
        case 2:
          Untag();
          break;
        case 3:
          ReplaceBlob();
          break;
        case 4:
          GiveUp();
          break;
        case 5:
          PutByDigests();
          break;
        case 6:
          Housekeeping();
          break;
        default:
          Put();
      }
    }
  }

  // Compares the store with the oracle, which learns how what was open ended.
  void Compare(bool damaged) {
    for (auto& [name, may_be_there] : oracle_.checkpoints) {
      const auto got = store::Get(*store_, name);
      if (damaged && absl::IsDataLoss(got.status())) continue;
      ASSERT_TRUE(got.ok() || absl::IsNotFound(got.status())) << name << ": " << got.status();
      ASSERT_EQ(may_be_there.count(got.ok()), 1u) << name << (got.ok() ? " is there" : " is lost");
      if (got.ok()) {
        const Content want = ContentOf(name);
        ASSERT_TRUE(got->bytes == want.bytes) << name;
        ASSERT_EQ(got->checkpoint.facts, want.checkpoint.facts);
      }
      may_be_there = {got.ok()};
    }
    const auto tags = store_->ListTags();
    if (!tags.ok() && damaged) return;
    ASSERT_TRUE(tags.ok()) << tags.status();
    std::map<std::string, std::string> found;
    for (const store::Tag& tag : *tags) found[tag.name] = tag.checkpoint;
    for (auto& [tag, may_be] : oracle_.tags) {
      ASSERT_EQ(may_be.count(found[tag]), 1u) << "tag " << tag << " points to \"" << found[tag] << '"';
      may_be = {found[tag]};
    }
    for (auto& [key, may_be] : oracle_.records) {
      const auto value = store_->GetRecord("owners", key);
      if (!value.ok() && damaged) continue;
      ASSERT_TRUE(value.ok()) << value.status();
      const std::string now = value->value_or("");
      ASSERT_EQ(may_be.count(now), 1u) << "record " << key << " is \"" << now << '"';
      may_be = {now};
      if (!now.empty()) CompareBlob(now, damaged);
    }
    if (!damaged) Audit();
  }

  void DeleteEverything() {
    for (const auto& [tag, at] : oracle_.tags) store_->DeleteTag(tag).IgnoreError();
    for (const auto& [name, there] : oracle_.checkpoints) {
      if (there.count(true) > 0) BDH_EXPECT_OK(store_->Delete(name));
    }
    for (const auto& [key, values] : oracle_.records) {
      if (values.count("") == 0) BDH_EXPECT_OK(store_->DeleteBlob(IdIn(*values.begin())));
    }
    BDH_EXPECT_OK(store_->CollectGarbage(false));
    const auto audit = store_->Check();
    ASSERT_TRUE(audit.ok()) << audit.status();
    if (store_->totals().named_uploads == 0) {
      EXPECT_EQ(audit->orphans, 0);
    }
    EXPECT_EQ(store_->totals().stored_bytes, 0);
  }

  // A full disk has no room to note what is free now either: that waits for the next start.
  void LetOrphansWait(bool wait) { orphans_wait_ = wait; }

  std::mt19937_64& random() { return random_; }
  Store& store() { return *store_; }

 private:
  static uint64_t IdIn(const std::string& value) { return std::strtoull(value.c_str(), nullptr, 10); }
  static uint64_t NumberIn(const std::string& value) {
    return std::strtoull(value.c_str() + value.find(' ') + 1, nullptr, 10);
  }
  void CompareBlob(const std::string& value, bool damaged) {
    const auto reader = store_->ReadBlob(IdIn(value));
    if (!reader.ok() && damaged) return;
    ASSERT_TRUE(reader.ok()) << reader.status();
    std::string bytes;
    while (true) {
      const auto piece = (*reader)->Next();
      if (!piece.ok() && damaged && absl::IsDataLoss(piece.status())) return;
      ASSERT_TRUE(piece.ok()) << piece.status();
      if (!piece->has_value()) break;
      bytes += **piece;
    }
    ASSERT_TRUE(bytes == BlobOf(NumberIn(value))) << value;
  }

  void Audit() {
    const auto audit = store_->Check();
    ASSERT_TRUE(audit.ok()) << audit.status();
    EXPECT_THAT(audit->damaged, testing::IsEmpty());
    if (store_->totals().named_uploads == 0 && !orphans_wait_) {
      EXPECT_EQ(audit->orphans, 0);
      EXPECT_EQ(audit->chunk_bytes, store_->totals().stored_bytes);
    }
    const auto there = std::count_if(oracle_.checkpoints.begin(), oracle_.checkpoints.end(),
                                     [](const auto& entry) { return entry.second.count(true) > 0; });
    EXPECT_EQ(audit->checkpoints, there);
    const auto blobs = std::count_if(oracle_.records.begin(), oracle_.records.end(),
                                     [](const auto& entry) { return entry.second.count("") == 0; });
    EXPECT_EQ(audit->blobs, blobs);
  }

  // Writes down that `what` may become `to`, does it, and writes down how it ended.
  template <class Value>
  void Do(std::set<Value>& what, const Value& to, const std::function<absl::Status()>& act) {
    what.insert(to);
    const absl::Status status = act();
    if (status.ok() && !disk_.is_cut()) what = {to};
    // Nothing here may fail, but for a disk that is full.
    EXPECT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << status;
  }

  std::string FreshName() { return store::CheckpointName("a", next_step_++); }
  std::set<bool>& Expected(const std::string& name) {
    return oracle_.checkpoints.emplace(name, std::set<bool>{false}).first->second;
  }
  Content Fresh() {
    Content content = ContentOf(FreshName());
    if (next_step_ > 1) content.checkpoint.parent = store::CheckpointName("a", next_step_ - 2);
    return content;
  }

  void Put() {
    const Content content = Fresh();
    Do(Expected(content.checkpoint.name), true,
       [&] { return store::Put(*store_, content, 300 + random_() % 1000).status(); });
  }

  void PutByDigests() {
    const Content content = Fresh();
    std::vector<store::TensorDigests> tensors;
    std::map<std::string, std::string> chunks;
    store::Sha256 sha;
    for (size_t i = 0; i < content.bytes.size(); ++i) {
      tensors.push_back({content.checkpoint.tensors[i].name, {}});
      for (size_t at = 0; at < content.bytes[i].size(); at += kChunk) {
        const std::string chunk = content.bytes[i].substr(at, kChunk);
        const std::string digest(sha.Of(chunk).view());
        chunks[digest] = chunk;
        tensors.back().digests.push_back(digest);
      }
    }
    Do(Expected(content.checkpoint.name), true, [&]() -> absl::Status {
      std::vector<std::string> digests;
      for (const auto& [digest, chunk] : chunks) digests.push_back(digest);
      const auto missing = store_->FindMissingChunks("up", digests);
      if (!missing.ok()) return missing.status();
      for (const int i : *missing) {
        const auto put = store_->PutChunk("up", digests[i], chunks[digests[i]]);
        if (!put.ok()) return put.status();
      }
      if (const auto synced = store_->SyncChunks(); !synced.ok()) return synced;
      return store_->CommitUpload("up", content.checkpoint, tensors).status();
    });
  }

  void GiveUp() {
    const Content content = ContentOf(store::CheckpointName("b", next_step_ + 1000));
    const auto upload = store_->Begin(content.checkpoint);
    if (upload.ok()) store::Send(**upload, content).IgnoreError();
  }

  std::string SomeCheckpoint() {
    std::vector<std::string> names;
    for (const auto& [name, there] : oracle_.checkpoints) {
      if (there.count(false) == 0) names.push_back(name);
    }
    return names.empty() ? "" : names[random_() % names.size()];
  }

  void Delete() {
    const std::string name = SomeCheckpoint();
    if (name.empty()) return;
    for (const auto& [tag, at] : oracle_.tags) {
      if (at.count(name) > 0) return;
    }
    Do(oracle_.checkpoints[name], false, [&] { return store_->Delete(name).status(); });
  }

  void Tag() {
    const std::string name = SomeCheckpoint();
    if (name.empty()) return;
    const std::string tag = absl::StrFormat("t%d", random_() % 3);
    auto& at = oracle_.tags.emplace(tag, std::set<std::string>{""}).first->second;
    Do(at, name, [&] { return store_->SetTag(tag, name).status(); });
  }

  void Untag() {
    for (auto& [tag, at] : oracle_.tags) {
      if (at.count("") > 0 || random_() % 2 == 0) continue;
      Do(at, std::string(), [&, &tag = tag] { return store_->DeleteTag(tag); });
      return;
    }
  }

  // The blob's id comes with its commit, which may have happened without our hearing of it: the value is in
  // the record.
  void ReplaceBlob() {
    const std::string key = absl::StrFormat("s%d", random_() % 2);
    auto& values = oracle_.records.emplace(key, std::set<std::string>{""}).first->second;
    if (values.size() != 1) return;
    const std::string old = *values.begin();
    const uint64_t number = next_blob_++;
    const auto upload = store_->BeginBlob("blobs/" + key, 1 << 20);
    if (!upload.ok() || !(*upload)->Add(BlobOf(number)).ok()) return;
    std::string now;
    const auto result = (*upload)->Commit([&](store::Transaction& transaction, const store::Blob& blob) {
      now = absl::StrFormat("%d %d", blob.id, number);
      values.insert(now);
      transaction.Put("owners", key, now);
      return old.empty() ? absl::OkStatus() : transaction.DeleteBlob(IdIn(old));
    });
    if (result.ok() && !disk_.is_cut()) values = {now};
    EXPECT_TRUE(result.ok() || absl::IsResourceExhausted(result.status())) << result.status();
  }

  void Housekeeping() {
    switch (random_() % 3) {
      case 0:
        store_->Reclaim();
        break;
      case 1:
        store_->Flush().IgnoreError();
        break;
      default:
        store_->CollectGarbage(false).IgnoreError();
    }
  }

  std::mt19937_64 random_;
  FaultyDisk& disk_;
  Store::Compression compression_;
  std::unique_ptr<Store> store_;
  Oracle oracle_;
  int64_t next_step_ = 0;
  uint64_t next_blob_ = 0;
  bool orphans_wait_ = false;
};

// A store that was just made: making one costs as much as many cuts.
std::shared_ptr<const FaultyDisk::Image> FreshStore() {
  static const std::shared_ptr<const FaultyDisk::Image> image = [] {
    FaultyDisk disk;
    Life life(0, disk);
    EXPECT_TRUE(life.Open().ok());
    life.Close();
    return disk.Save();
  }();
  return image;
}

void LiveThroughCuts(uint64_t seed) {
  SCOPED_TRACE(absl::StrFormat("BDH_STRESS_SEED=%d", seed));
  FaultyDisk disk;
  disk.Load(*FreshStore());
  Life life(seed, disk);
  auto& random = life.random();
  for (int cut = 0; cut < kCuts; ++cut) {
    SCOPED_TRACE(absl::StrFormat("cut %d", cut));
    // Also while the store is being opened and recovers.
    disk.CutAfter(1 + static_cast<int64_t>(random() % (random() % 4 == 0 ? 30 : 250)));
    BDH_ASSERT_OK(life.Open());
    life.Act(40);
    life.Close();
    disk.Restart(random);
    BDH_ASSERT_OK(life.Open());
    ASSERT_NO_FATAL_FAILURE(life.Compare(false));
    if (testing::Test::HasFailure()) return;
    life.Close();
  }
  BDH_ASSERT_OK(life.Open());
  life.DeleteEverything();
}

class PowerCuts : public testing::TestWithParam<int> {};

TEST_P(PowerCuts, WhatWasAcknowledgedSurvivesThemAndNothingHalfIsSeen) {
  const char* only = std::getenv("BDH_STRESS_SEED");
  if (only != nullptr) return LiveThroughCuts(std::strtoull(only, nullptr, 10));
  const uint64_t fresh = NumberFrom("BDH_STRESS_LIVES", 0) / kParts;
  uint64_t seed = fresh > 0 ? std::random_device()() : 1 + GetParam() * kLives;
  for (uint64_t i = 0; i < std::max(fresh, kLives); ++i, ++seed) {
    LiveThroughCuts(seed);
    if (testing::Test::HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Part, PowerCuts, testing::Range(0, kParts));

// A bit flipped in any file under a store whose process was killed: it is refused as damaged, or everything
// that was acknowledged is there, right or as DATA_LOSS. Corrupt never looks like absent.
TEST(CkptStress, AFlippedBitIsNoticedOrHarmlessAndNeverLooksLikeAbsence) {
  const uint64_t lives = NumberFrom("BDH_STRESS_LIVES", kParts * kLives) / 3;
  int refused = 0;
  for (uint64_t seed = 1; seed <= lives; ++seed) {
    SCOPED_TRACE(absl::StrFormat("seed %d", seed));
    FaultyDisk disk;
    disk.Load(*FreshStore());
    Life life(seed, disk);
    ASSERT_TRUE(life.Open().ok());
    life.Act(15);
    life.Close();
    const char* const suffixes[] = {".pack", ".sst", ".log", ""};
    std::string where;
    if (!disk.FlipBit(suffixes[seed % 4], life.random(), &where)) continue;
    const absl::Status reopened = life.Open();
    if (!reopened.ok()) {
      ++refused;
      ASSERT_TRUE(absl::IsDataLoss(reopened)) << where << ": " << reopened;
      continue;
    }
    ASSERT_NO_FATAL_FAILURE(life.Compare(true)) << where;
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(refused, 0);
}

TEST(CkptStress, ALostPackIsNamedAndTheRestIsServed) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    FaultyDisk disk;
    disk.Load(*FreshStore());
    Life life(3 * seed, disk);  // Without compression.
    ASSERT_TRUE(life.Open().ok());
    life.Act(25);
    life.Close();
    const std::string lost = disk.Lose(".pack", life.random());
    if (lost.empty()) continue;
    ASSERT_TRUE(life.Open().ok());
    ASSERT_NO_FATAL_FAILURE(life.Compare(true)) << lost;
    const auto verified = life.store().Verify({});
    ASSERT_TRUE(verified.ok()) << verified.status();
    for (const store::Damage& damage : verified->damage) {
      EXPECT_THAT(damage.message, testing::HasSubstr("is missing"));
      EXPECT_THAT(damage.places, testing::Not(testing::IsEmpty()));
    }
    // The same again says the same: it is written down.
    const auto listed = life.store().ListDamage(1000);
    EXPECT_EQ(listed->size(), verified->damage.size());
  }
}

// A disk with little room: what does not fit is refused with the numbers, reads go on, and once something was
// deleted or the disk grew, writes go on.
TEST(CkptStress, AFullDiskRefusesWritesAndServesTheRest) {
  int refused = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(absl::StrFormat("seed %d", seed));
    FaultyDisk disk;
    disk.Load(*FreshStore());
    Life life(3 * seed, disk);
    ASSERT_TRUE(life.Open().ok());
    disk.SetCapacity(disk.used_bytes() + (1 << 20) + 20'000 + static_cast<int64_t>(life.random()() % 30'000));
    life.Act(60);
    const Content large = [] {
      Content content;
      content.checkpoint.name = "runs/large/steps/1";
      content.AddBytes("t", RandomBytes(9, 200'000));
      return content;
    }();
    const auto status = store::Put(life.store(), large).status();
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("full"));
    ++refused;
    life.LetOrphansWait(true);
    ASSERT_NO_FATAL_FAILURE(life.Compare(false));
    disk.SetCapacity(-1);
    BDH_EXPECT_OK(store::Put(life.store(), large).status());
    BDH_EXPECT_OK(life.store().Delete("runs/large/steps/1").status());
    life.Act(10);
    ASSERT_NO_FATAL_FAILURE(life.Compare(false));
    // The next start finishes what had no room.
    life.Close();
    ASSERT_TRUE(life.Open().ok());
    life.LetOrphansWait(false);
    ASSERT_NO_FATAL_FAILURE(life.Compare(false));
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace bdh::faults
