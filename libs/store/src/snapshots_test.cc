// Snapshots of sessions: what an owner saves comes back, what a stale owner saves is refused, nothing
// outlives its time or its tenant's quota, and what two snapshots share is kept once. Time passes when the
// test says so.

#include "bdh/store/snapshots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "bdh/base/text.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "store_fixture.h"

namespace bdh::store {
namespace {

using testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

class SnapshotsTest : public testing::Test {
 protected:
  void SetUp() override { Reopen(); }
  void Reopen(int64_t quota = 8 * kMiB) {
    snapshots_.reset();
    store_.reset();
    auto opened = Store::Open(
        {.folder = folder_.path() + "/store", .chunk_bytes = 65536, .min_free_bytes = 0, .clock = clock_});
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = *std::move(opened);
    snapshots_ = std::make_unique<SnapshotStore>(
        *store_,
        SnapshotStore::Options{
            .max_snapshot_bytes = 4 * kMiB, .quota_bytes = quota, .max_sessions = 5, .clock = clock_});
  }
  void Pass(absl::Duration time) { now_ += time; }

  int64_t Own(const std::string& session, const std::string& owner = "a:1") {
    const auto own = snapshots_->Own(session, owner, absl::Minutes(1));
    EXPECT_TRUE(own.ok()) << own.status();
    return own.ok() ? own->generation : 0;
  }
  absl::StatusOr<SnapshotUpload::Result> Put(SnapshotStore::Put put, const std::string& bytes) {
    auto upload = snapshots_->Begin(std::move(put));
    if (!upload.ok()) return upload.status();
    for (size_t at = 0; at < bytes.size(); at += kMiB) {
      if (const auto status = (*upload)->Add(bytes.substr(at, kMiB)); !status.ok()) return status;
    }
    return (*upload)->Commit({.header = "of " + std::to_string(bytes.size()),
                              .sha256 = Sha256Hex(bytes),
                              .size_bytes = static_cast<int64_t>(bytes.size())});
  }
  // The bytes, or the error's code in words.
  std::string Get(const std::string& session) {
    auto opened = snapshots_->Read(session);
    if (!opened.ok()) return absl::StatusCodeToString(opened.status().code());
    std::string bytes;
    while (true) {
      const auto next = opened->bytes->Next();
      if (!next.ok()) return std::string(next.status().message());
      if (!next->has_value()) return bytes;
      bytes += **next;
    }
  }
  int64_t Total() {
    const auto totals = snapshots_->totals();
    return totals.ok() ? totals->snapshots : -1;
  }

  TempDirectory folder_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  const std::function<absl::Time()> clock_ = [this] { return now_; };
  std::unique_ptr<Store> store_;
  std::unique_ptr<SnapshotStore> snapshots_;
};

TEST_F(SnapshotsTest, WhatAnOwnerSavesComesBackAlsoAfterARestartAndIsReplacedAsAWhole) {
  const int64_t generation = Own("chat/1");
  const std::string first = RandomBytes(1, 3 * kMiB + 5), second = RandomBytes(2, kMiB / 2);
  BDH_ASSERT_OK_AND_ASSIGN(const auto put,
                           Put({.session = "chat/1", .tenant = "t/u", .generation = generation}, first));
  EXPECT_EQ(put.stored_bytes, static_cast<int64_t>(first.size()));
  EXPECT_EQ(put.snapshot.expire_time, now_ + absl::Hours(24));
  EXPECT_TRUE(Get("chat/1") == first);
  {
    BDH_ASSERT_OK_AND_ASSIGN(auto abandoned,
                             snapshots_->Begin({.session = "chat/1", .generation = generation}));
    BDH_ASSERT_OK(abandoned->Add(second));
  }
  Reopen();
  EXPECT_TRUE(Get("chat/1") == first);
  BDH_ASSERT_OK_AND_ASSIGN(auto reading, snapshots_->Read("chat/1"));
  BDH_ASSERT_OK(Put({.session = "chat/1", .tenant = "t/u", .generation = generation}, second));
  EXPECT_TRUE(Get("chat/1") == second);
  BDH_EXPECT_OK(reading.bytes->Next());
  EXPECT_EQ(store_->totals().blobs, 1) << "the one before is gone";
  BDH_ASSERT_OK_AND_ASSIGN(const auto audit, store_->Check());
  EXPECT_EQ(audit.orphans, 0);
}

TEST_F(SnapshotsTest, WhatSnapshotsShareIsKeptOnce) {
  const std::string bytes = RandomBytes(1, 2 * kMiB);
  BDH_ASSERT_OK(Put({.session = "a", .generation = Own("a")}, bytes));
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, Put({.session = "b", .generation = Own("b")}, bytes));
  EXPECT_EQ(again.stored_bytes, 0);
  BDH_ASSERT_OK(snapshots_->Delete("a", std::nullopt));
  EXPECT_TRUE(Get("b") == bytes);
}

TEST_F(SnapshotsTest, AStaleOwnerIsRefusedAtTheBeginningAndAtTheEnd) {
  const int64_t mine = Own("s", "a:1");
  EXPECT_EQ(Own("s", "a:1"), mine) << "the same owner only lengthens its lease";
  BDH_ASSERT_OK(Put({.session = "s", .generation = mine}, "first"));
  BDH_ASSERT_OK_AND_ASSIGN(auto late, snapshots_->Begin({.session = "s", .generation = mine}));
  const int64_t theirs = Own("s", "b:1");
  EXPECT_GT(theirs, mine);
  const auto refused = late->Commit({.header = "", .sha256 = Sha256Hex(""), .size_bytes = 0});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAborted) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("b:1 owns it"));
  EXPECT_EQ(Put({.session = "s", .generation = mine}, "stale").status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(snapshots_->Delete("s", mine).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(Get("s"), "first");
  BDH_EXPECT_OK(snapshots_->Delete("s", theirs));
  BDH_EXPECT_OK(snapshots_->Delete("s", theirs));
  EXPECT_EQ(Get("s"), "NOT_FOUND");
  EXPECT_EQ(Put({.session = "nobody", .generation = 1}, "x").status().code(), absl::StatusCode::kAborted);
}

TEST_F(SnapshotsTest, OneWhoAsksFirstGetsASessionOnlyWhenItsLeaseHasEnded) {
  Own("s", "a:1");
  const auto refused = snapshots_->Own("s", "b:1", absl::Minutes(1), /*unless_owned=*/true);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("a:1 owns session s until"));
  Pass(absl::Minutes(1));
  BDH_EXPECT_OK(snapshots_->Own("s", "b:1", absl::Minutes(1), /*unless_owned=*/true));
}

TEST_F(SnapshotsTest, BytesThatAreNotWhatTheirEndSaysAreRefused) {
  const int64_t generation = Own("s");
  BDH_ASSERT_OK(Put({.session = "s", .generation = generation}, "whole"));
  BDH_ASSERT_OK_AND_ASSIGN(auto torn, snapshots_->Begin({.session = "s", .generation = generation}));
  BDH_ASSERT_OK(torn->Add("ha"));
  EXPECT_EQ(torn->Commit({.sha256 = Sha256Hex("half"), .size_bytes = 4}).status().code(),
            absl::StatusCode::kDataLoss);
  BDH_ASSERT_OK_AND_ASSIGN(auto flipped, snapshots_->Begin({.session = "s", .generation = generation}));
  BDH_ASSERT_OK(flipped->Add("hblf"));
  EXPECT_EQ(flipped->Commit({.sha256 = Sha256Hex("half"), .size_bytes = 4}).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(Get("s"), "whole");
}

TEST_F(SnapshotsTest, WhatHasExpiredIsNotFoundAndIsCollected) {
  BDH_ASSERT_OK(Put({.session = "short", .generation = Own("short"), .time_to_live = absl::Hours(1)}, "s"));
  BDH_ASSERT_OK(Put({.session = "long", .generation = Own("long"), .time_to_live = absl::Hours(100)}, "l"));
  Own("idle");
  Pass(absl::Hours(1));
  EXPECT_EQ(Get("short"), "NOT_FOUND");
  EXPECT_EQ(snapshots_->List("", 10, "")->snapshots.size(), 1u);
  EXPECT_EQ(Total(), 2);
  EXPECT_EQ(*snapshots_->CollectExpired(), 1);
  EXPECT_EQ(*snapshots_->CollectExpired(), 0);
  EXPECT_EQ(Total(), 1);
  EXPECT_EQ(store_->totals().blobs, 1);
  // Owners are remembered for a day after their lease; a number is never given twice all the same.
  const int64_t before = Own("idle", "b:1");
  Pass(absl::Hours(25));
  EXPECT_EQ(*snapshots_->CollectExpired(), 0);
  EXPECT_EQ(Put({.session = "idle", .generation = before}, "x").status().code(), absl::StatusCode::kAborted);
  EXPECT_GT(Own("idle", "b:1"), before);
  EXPECT_EQ(Get("long"), "l");
}

TEST_F(SnapshotsTest, ATenantsQuotaHoldsForAllItsUsersAndCountsWhatIsReplacedOnce) {
  Reopen(/*quota=*/3 * kMiB);
  const std::string two = RandomBytes(1, 2 * kMiB);
  const int64_t a = Own("a"), b = Own("b");
  BDH_ASSERT_OK(Put({.session = "a", .tenant = "t/u", .generation = a}, two));
  BDH_ASSERT_OK(Put({.session = "a", .tenant = "t/u", .generation = a}, RandomBytes(2, 2 * kMiB)));
  const auto full = Put({.session = "b", .tenant = "t/other", .generation = b}, two);
  EXPECT_EQ(full.status().code(), absl::StatusCode::kResourceExhausted) << full.status();
  EXPECT_THAT(std::string(full.status().message()), HasSubstr("tenant t take 2.0 MiB"));
  // One that says its size is refused before its bytes travel.
  EXPECT_EQ(snapshots_->Begin({.session = "b", .tenant = "t", .generation = b, .size_bytes = 2 * kMiB})
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
  BDH_EXPECT_OK(Put({.session = "b", .tenant = "else", .generation = b}, two));
  // What has expired makes room.
  Pass(absl::Hours(25));
  BDH_EXPECT_OK(Put({.session = "b", .tenant = "t", .generation = Own("b"), .size_bytes = 2 * kMiB}, two));
  EXPECT_EQ(snapshots_->totals()->bytes, 2 * kMiB);
}

TEST_F(SnapshotsTest, EveryLimitIsRefusedByName) {
  const auto own = [&](const std::string& session, const std::string& owner, absl::Duration lease) {
    return snapshots_->Own(session, owner, lease).status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(own("", "a", absl::Minutes(1)), kInvalid);
  EXPECT_EQ(own("a b", "a", absl::Minutes(1)), kInvalid);
  EXPECT_EQ(own(std::string(129, 's'), "a", absl::Minutes(1)), kInvalid);
  EXPECT_EQ(own("s", "", absl::Minutes(1)), kInvalid);
  EXPECT_EQ(own("s", std::string(257, 'o'), absl::Minutes(1)), kInvalid);
  EXPECT_EQ(own("s", "a", absl::Milliseconds(999)), kInvalid);
  EXPECT_EQ(own("s", "a", absl::Minutes(61)), kInvalid);
  const int64_t generation = Own("s");
  const auto put = [&](SnapshotStore::Put what, size_t size = 1) {
    what.session = "s";
    what.generation = generation;
    return Put(std::move(what), RandomBytes(3, size)).status();
  };
  EXPECT_EQ(put({.time_to_live = absl::Milliseconds(1)}).code(), kInvalid);
  EXPECT_EQ(put({.time_to_live = absl::Hours(24 * 366)}).code(), kInvalid);
  EXPECT_EQ(put({.tenant = std::string(257, 't')}).code(), kInvalid);
  EXPECT_EQ(put({.size_bytes = 4 * kMiB + 1}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(put({}, 4 * kMiB + 1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(put({}, 4 * kMiB).code(), absl::StatusCode::kOk);
  for (const char* more : {"1", "2", "3", "4"}) Own(more);
  EXPECT_EQ(own("5", "a", absl::Minutes(1)), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(snapshots_->List("", 0, "").ok());
  EXPECT_FALSE(snapshots_->List("", 1001, "").ok());
  EXPECT_FALSE(snapshots_->List("", 1, "no token").ok());
}

TEST_F(SnapshotsTest, SnapshotsAreListedBySessionInPagesAndByTenant) {
  for (const char* session : {"c", "a", "b"}) {
    const std::string tenant = std::string(session) == "b" ? "two" : "one/user";
    BDH_ASSERT_OK(Put({.session = session, .tenant = tenant, .generation = Own(session)}, session));
  }
  std::string names, token;
  do {
    BDH_ASSERT_OK_AND_ASSIGN(const auto page, snapshots_->List("one", 1, token));
    for (const SessionSnapshot& snapshot : page.snapshots)
      names += snapshot.session + " " + snapshot.header + ";";
    token = page.next_token;
  } while (!token.empty());
  EXPECT_EQ(names, "a of 1;c of 1;");
}

TEST_F(SnapshotsTest, ManyWritersOfOneSessionLeaveOneWholeSnapshot) {
  const int64_t generation = Own("s");
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 4; ++i) {
        const std::string bytes = RandomBytes(static_cast<uint64_t>(t * 10 + i), 100'000 + t * 1000 + i);
        const auto put = Put({.session = "s", .generation = generation}, bytes);
        EXPECT_TRUE(put.ok()) << put.status();
        EXPECT_GE(Get("s").size(), 100'000u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_->totals().blobs, 1);
  EXPECT_EQ(Total(), 1);
  BDH_ASSERT_OK_AND_ASSIGN(const auto audit, store_->Check());
  EXPECT_TRUE(audit.damaged.empty());
  EXPECT_EQ(audit.orphans, 0);
}

}  // namespace
}  // namespace bdh::store
