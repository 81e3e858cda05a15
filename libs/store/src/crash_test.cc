// kill -9 at any moment: a child process puts, tags, deletes and gives up uploads in two threads, saying
// before and after each what it does; it is killed at random moments, and after each kill everything it was
// told is done is done, everything it was not told is done wholly or not at all, and no byte is left that
// nothing holds.
//
// The child is this program, started again with --child.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "store_fixture.h"

namespace bdh::store {
namespace {

constexpr int kKills = 15;

absl::StatusOr<std::unique_ptr<Store>> OpenIn(const std::string& folder) {
  return Store::Open({.folder = folder, .chunk_bytes = 16384, .min_free_bytes = 0});
}

// The bytes follow from the name, so that parent and child need not talk about them.
Content ContentOf(const std::string& name) {
  const uint64_t step = std::strtoull(name.c_str() + name.rfind('/') + 1, nullptr, 10);
  return SomeContent(name, step, 1000 + step * 7919 % 400'000);
}

// ---- The child ----

// One write, so that the lines of two threads and a kill do not mix.
void Say(const std::string& line) {
  if (write(STDOUT_FILENO, (line + "\n").c_str(), line.size() + 1) < 0) _exit(3);
}

class Worker {
 public:
  Worker(Store& store, std::string run, uint64_t seed)
      : store_(store), run_(std::move(run)), random_(seed), step_(1 + seed % 1'000'000 * 1000) {
    const auto page = store_.List(run_, 1000, "");
    for (const Checkpoint& checkpoint : page->checkpoints) {
      if (checkpoint.tags.empty()) untagged_.push_back(checkpoint.name);
    }
  }

  void Run() {
    while (true) {
      switch (random_() % 6) {
        case 0:
          GiveUp();
          break;
        case 1:
          Delete();
          break;
        default:
          PutAndMaybeTag();
      }
    }
  }

 private:
  void Do(const std::string& what, const std::function<absl::Status()>& act) {
    Say("? " + what);
    const absl::Status status = act();
    if (!status.ok()) {
      Say("error " + what + ": " + status.ToString());
      _exit(4);
    }
    Say("! " + what);
  }

  void PutAndMaybeTag() {
    const std::string name = CheckpointName(run_, step_++);
    Do("put " + name, [&] { return Put(store_, ContentOf(name), 16384).status(); });
    if (random_() % 2 == 0) {
      Do("tag " + run_ + " " + name, [&] { return store_.SetTag(run_, name).status(); });
      if (!tagged_.empty()) untagged_.push_back(tagged_);
      tagged_ = name;
    } else {
      untagged_.push_back(name);
    }
  }

  void Delete() {
    if (untagged_.empty()) return;
    const size_t i = random_() % untagged_.size();
    Do("delete " + untagged_[i], [&] { return store_.Delete(untagged_[i]).status(); });
    untagged_.erase(untagged_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  void GiveUp() {
    const Content content = ContentOf(CheckpointName(run_, 777));
    const auto upload = store_.Begin(content.checkpoint);
    if (!upload.ok() || !Send(**upload, content).ok()) _exit(5);
  }

  Store& store_;
  const std::string run_;
  std::mt19937_64 random_;
  int64_t step_;
  std::vector<std::string> untagged_;
  std::string tagged_;
};

int RunChild(const std::string& folder, uint64_t seed) {
  const auto store = OpenIn(folder);
  if (!store.ok()) {
    Say("error open: " + store.status().ToString());
    return 2;
  }
  std::thread other([&] { Worker(**store, "b", 2 * seed + 1).Run(); });
  Worker(**store, "a", 2 * seed).Run();
  return 0;
}

// ---- The parent ----

// What the child said: the oracle outside the store.
class Oracle {
 public:
  void Hear(const std::string& line) {
    std::istringstream words(line);
    std::string mark, verb, first, second;
    words >> mark >> verb >> first >> second;
    ASSERT_TRUE(mark == "?" || mark == "!") << line;
    const bool done = mark == "!";
    if (verb == "put") checkpoints_[first] = done ? State::kThere : State::kMaybe;
    if (verb == "delete") checkpoints_[first] = done ? State::kGone : State::kMaybe;
    if (verb != "tag") return;
    if (done) tags_[first].clear();
    tags_[first].insert(second);
  }

  // Checks the store against what is known, and learns how what was open ended.
  void Compare(Store& store) {
    for (auto& [name, state] : checkpoints_) {
      const auto got = Get(store, name);
      const bool there = got.ok();
      ASSERT_TRUE(there || absl::IsNotFound(got.status())) << name << got.status();
      EXPECT_TRUE(state == State::kMaybe || there == (state == State::kThere)) << name;
      EXPECT_TRUE(!there || got->bytes == ContentOf(name).bytes) << name;
      state = there ? State::kThere : State::kGone;
    }
    CompareTags(store);
    CompareTotals(store);
  }

  int64_t there() const {
    return std::count_if(checkpoints_.begin(), checkpoints_.end(),
                         [](const auto& entry) { return entry.second == State::kThere; });
  }

 private:
  enum class State { kMaybe, kThere, kGone };

  void CompareTags(Store& store) {
    const auto tags = store.ListTags();
    ASSERT_TRUE(tags.ok()) << tags.status();
    std::map<std::string, std::string> found;
    for (const Tag& tag : *tags) found[tag.name] = tag.checkpoint;
    for (auto& [tag, candidates] : tags_) {
      // Only a tag that was never acknowledged may be absent.
      if (found.count(tag) == 0 && acknowledged_.count(tag) == 0) continue;
      EXPECT_EQ(candidates.count(found[tag]), 1u) << tag << " points to " << found[tag];
      candidates = {found[tag]};
      acknowledged_.insert(tag);
    }
  }

  void CompareTotals(Store& store) {
    const auto audit = store.Check();
    ASSERT_TRUE(audit.ok()) << audit.status();
    EXPECT_THAT(audit->damaged, testing::IsEmpty());
    EXPECT_EQ(audit->orphans, 0);
    EXPECT_EQ(audit->checkpoints, there());
    EXPECT_EQ(audit->chunk_bytes, store.totals().stored_bytes);
  }

  std::map<std::string, State> checkpoints_;
  std::map<std::string, std::set<std::string>> tags_;
  std::set<std::string> acknowledged_;
};

// Runs a child for so long, kills it, and returns what it said.
std::vector<std::string> RunAndKill(const std::string& folder, uint64_t seed, int milliseconds) {
  int pipe_ends[2];
  EXPECT_EQ(pipe(pipe_ends), 0);
  const std::string seed_text = std::to_string(seed);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_ends[1], STDOUT_FILENO);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    execl("/proc/self/exe", "crash_test", "--child", folder.c_str(), seed_text.c_str(), nullptr);
    _exit(9);
  }
  close(pipe_ends[1]);
  std::string said;
  std::thread listener([&] {
    char buffer[65536];
    for (ssize_t got; (got = read(pipe_ends[0], buffer, sizeof(buffer))) > 0;) said.append(buffer, got);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the child left by itself, status " << status << ": " << said;
  listener.join();
  close(pipe_ends[0]);
  std::vector<std::string> lines;
  std::istringstream stream(said);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(CrashTest, WhatWasAcknowledgedSurvivesKillsAndNothingHalfIsSeen) {
  const TempDirectory folder;
  const std::string path = folder.path() + "/store";
  const char* seed_text = std::getenv("BDH_CRASH_SEED");
  const char* kills_text = std::getenv("BDH_CRASH_KILLS");
  const uint64_t seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : std::random_device()();
  const int kills = kills_text != nullptr ? std::atoi(kills_text) : kKills;
  SCOPED_TRACE(absl::StrFormat("BDH_CRASH_SEED=%d", seed));
  std::mt19937_64 random(seed);
  Oracle oracle;
  int acts = 0;
  for (int i = 0; i < kills; ++i) {
    // From the middle of opening to well into the work.
    for (const std::string& line :
         RunAndKill(path, seed % 10'000 * 100 + i, static_cast<int>(random() % 300))) {
      ASSERT_NO_FATAL_FAILURE(oracle.Hear(line));
      ++acts;
    }
    const auto store = OpenIn(path);
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_NO_FATAL_FAILURE(oracle.Compare(**store));
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(acts, kills) << "the children did next to nothing";

  const auto store = OpenIn(path);
  ASSERT_TRUE(store.ok()) << store.status();
  BDH_ASSERT_OK_AND_ASSIGN(const auto tags, (*store)->ListTags());
  for (const Tag& tag : tags) BDH_ASSERT_OK((*store)->DeleteTag(tag.name));
  while (true) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto page, (*store)->List("", 1000, ""));
    if (page.checkpoints.empty()) break;
    for (const Checkpoint& checkpoint : page.checkpoints)
      BDH_ASSERT_OK((*store)->Delete(checkpoint.name).status());
  }
  BDH_ASSERT_OK_AND_ASSIGN(const auto audit, (*store)->Check());
  EXPECT_EQ(audit.orphans, 0);
  EXPECT_EQ((*store)->totals().stored_bytes, 0);
}

}  // namespace
}  // namespace bdh::store

int main(int argc, char** argv) {
  if (argc == 4 && std::string_view(argv[1]) == "--child") {
    return bdh::store::RunChild(argv[2], std::strtoull(argv[3], nullptr, 10));
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
