// kill -9 of a real bdh-checkpoint-store at random moments while two clients put, tag, delete and collect
// garbage: after each restart all that was acknowledged reads back whole, nothing half is visible, and in the
// end all space is given back.
//
// BDH_CRASH_KILLS=n kills so often, BDH_CRASH_SEED=n with the same dice.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/testing/random_bytes.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "tests/faults/store_daemon.h"

namespace bdh::e2e {
namespace {

using Stub = v1::CheckpointStoreService::Stub;

constexpr int kKills = 25;
constexpr size_t kFew = 10;  // Checkpoints that a client keeps.

const std::vector<std::string> kSettings = {"chunk_bytes=65536", "pack_bytes=4194304",
                                            "min_free_bytes=1048576"};

uint64_t NumberFrom(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

// They follow from the name; checkpoints that are near share the first part.
std::string BytesOf(const std::string& name) {
  const uint64_t step = std::strtoull(name.c_str() + name.rfind('/') + 1, nullptr, 10);
  return RandomBytes(step / 4, 70'000 + step % 5 * 65'536) + RandomBytes(step + 1'000'000, 40'000);
}

// One client and what it knows: an act that was begun and not answered may have happened or not.
class Client {
 public:
  Client(std::string run, uint64_t seed) : run_(std::move(run)), random_(seed) {}

  // Acts until the daemon is gone.
  void Act(const StoreDaemon& daemon) {
    while (ActOnce(daemon)) ++acts_;
  }

  void Compare(const StoreDaemon& daemon) {
    CompareList(daemon);
    std::map<std::string, bool> found;
    for (const auto& [name, may_be_there] : checkpoints_) {
      const auto got = daemon.Get(name);
      ASSERT_TRUE(got.ok() || absl::IsNotFound(got.status())) << name << ": " << got.status();
      ASSERT_EQ(may_be_there.count(got.ok()), 1u) << name << (got.ok() ? " is there" : " is lost");
      if (got.ok()) {
        ASSERT_TRUE(*got == BytesOf(name)) << name;
      }
      found[name] = got.ok();
    }
    checkpoints_.clear();
    for (const auto& [name, there] : found) {
      if (there) checkpoints_[name] = {true};
    }
    CompareTag(daemon);
  }

  void DeleteEverything(const StoreDaemon& daemon) {
    if (tag_.count("") == 0) {
      v1::DeleteTagRequest untag;
      untag.set_tag(run_);
      BDH_EXPECT_OK(daemon.Call(&Stub::DeleteTag, untag));
    }
    for (const auto& [name, there] : checkpoints_) BDH_EXPECT_OK(daemon.Delete(name));
  }

  int acts() const { return acts_; }

 private:
  bool ActOnce(const StoreDaemon& daemon) {
    if (checkpoints_.size() > kFew) return Delete(daemon);
    switch (random_() % 10) {
      case 0:
        return Collect(daemon);
      case 1:
      case 2:
        return Delete(daemon);
      case 3:
      case 4:
        return Tag(daemon);
      default:
        return Put(daemon);
    }
  }

  // What is listed must be known, and is compared byte by byte by the caller.
  void CompareList(const StoreDaemon& daemon) {
    v1::ListCheckpointsRequest request;
    request.set_run(run_);
    request.set_page_size(1000);
    const auto page = daemon.Call(&Stub::ListCheckpoints, request);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const v1::Checkpoint& checkpoint : page->checkpoints()) {
      EXPECT_EQ(checkpoints_.count(checkpoint.name()), 1u) << checkpoint.name() << " should not be there";
    }
  }

  void CompareTag(const StoreDaemon& daemon) {
    const auto tags = daemon.Call(&Stub::ListTags, v1::ListTagsRequest());
    ASSERT_TRUE(tags.ok()) << tags.status();
    std::string now;
    for (const v1::Tag& tag : tags->tags()) {
      if (tag.name() == run_) now = tag.checkpoint();
    }
    ASSERT_EQ(tag_.count(now), 1u) << "tag " << run_ << " points to \"" << now << '"';
    tag_ = {now};
  }

  static bool IsGone(const absl::Status& status) {
    EXPECT_TRUE(status.ok() || absl::IsUnavailable(status) || absl::IsCancelled(status)) << status;
    return !status.ok();
  }

  // One that is there for sure and that the tag may not point to; or none.
  std::string Some() {
    std::vector<std::string> names;
    for (const auto& [name, there] : checkpoints_) {
      if (there.count(false) == 0 && tag_.count(name) == 0) names.push_back(name);
    }
    return names.empty() ? "" : names[random_() % names.size()];
  }

  bool Put(const StoreDaemon& daemon) {
    const std::string name = absl::StrFormat("runs/%s/steps/%d", run_, next_step_++);
    checkpoints_[name] = {false, true};
    if (IsGone(daemon.Put(name, BytesOf(name)))) return false;
    checkpoints_[name] = {true};
    return true;
  }

  bool Delete(const StoreDaemon& daemon) {
    const std::string name = Some();
    if (name.empty()) return true;
    checkpoints_[name].insert(false);
    if (IsGone(daemon.Delete(name))) return false;
    checkpoints_.erase(name);
    return true;
  }

  bool Tag(const StoreDaemon& daemon) {
    const std::string name = Some();
    if (name.empty()) return true;
    tag_.insert(name);
    if (IsGone(daemon.SetTag(run_, name))) return false;
    tag_ = {name};
    return true;
  }

  static bool Collect(const StoreDaemon& daemon) {
    const absl::Status status = daemon.CollectGarbage();
    return absl::IsAborted(status) || !IsGone(status);  // Aborted: the other client's is running.
  }

  const std::string run_;
  std::mt19937_64 random_;
  int64_t next_step_ = 0;
  int acts_ = 0;
  std::map<std::string, std::set<bool>> checkpoints_;  // Whether each is there: one answer or two.
  std::set<std::string> tag_ = {""};                   // Where the tag may point.
};

int64_t PackBytes(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/store/packs", gone)) {
    const auto size = entry.file_size(gone);
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

TEST(StoreKill, WhatWasAcknowledgedSurvivesKillsOfTheDaemon) {
  const TempDirectory folder;
  const uint64_t kills = NumberFrom("BDH_CRASH_KILLS", kKills);
  const uint64_t seed = NumberFrom("BDH_CRASH_SEED", std::random_device()());
  SCOPED_TRACE(absl::StrFormat("BDH_CRASH_SEED=%d", seed));
  std::mt19937_64 random(seed);
  Client first("a", seed + 1), second("b", seed + 2);
  for (uint64_t kill = 0; kill < kills; ++kill) {
    if (random() % 4 == 0) {  // One that is killed while it starts.
      Subprocess starting(StoreDaemon::StartCommand(folder.path(), kSettings));
      absl::SleepFor(absl::Milliseconds(static_cast<int64_t>(random() % 150)));
      starting.Signal(SIGKILL);
      starting.Wait(absl::Seconds(20));
    }
    StoreDaemon daemon(folder.path(), kSettings);
    ASSERT_NO_FATAL_FAILURE(first.Compare(daemon));
    ASSERT_NO_FATAL_FAILURE(second.Compare(daemon));
    std::thread a([&] { first.Act(daemon); }), b([&] { second.Act(daemon); });
    absl::SleepFor(absl::Milliseconds(static_cast<int64_t>(random() % 400)));
    daemon.Kill();
    a.join();
    b.join();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(first.acts() + second.acts(), static_cast<int>(kills)) << "the clients did next to nothing";
  StoreDaemon daemon(folder.path(), kSettings);
  ASSERT_NO_FATAL_FAILURE(first.Compare(daemon));
  ASSERT_NO_FATAL_FAILURE(second.Compare(daemon));
  first.DeleteEverything(daemon);
  second.DeleteEverything(daemon);
  BDH_EXPECT_OK(daemon.CollectGarbage());
  EXPECT_EQ(PackBytes(folder.path()), 0);
}

}  // namespace
}  // namespace bdh::e2e
