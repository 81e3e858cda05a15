#pragma once

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "bdh/base/mutex.h"
#include "digest.h"
#include "ledger.h"

namespace bdh::store {

// Threads that hash and write chunks beside those that bring them, so that one chunk is hashed while another
// is on its way to the disk. One set for the whole store. Thread-safe.
class Helpers {
 public:
  // `threads`: 0 is one a core, less is none: all is done by the callers.
  explicit Helpers(int threads);
  // Does first what was given.
  ~Helpers();
  Helpers(const Helpers&) = delete;
  Helpers& operator=(const Helpers&) = delete;

  // Copies the chunk and passes it to `work` on a thread of its own. False: all are busy, and the caller does
  // it himself; so there are few copies at any time.
  using Work = std::function<void(std::string_view bytes)>;
  bool Take(std::string_view bytes, Work work);

 private:
  struct Task {
    std::string bytes;
    Work work;
  };
  void Run();

  Mutex mutex_;
  CondVar given_;
  std::deque<Task> queue_ ABSL_GUARDED_BY(mutex_);
  // Buffers not in use, kept: to get and give back a MiB for each chunk costs as much as to copy it.
  std::vector<std::string> buffers_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// Where the chunks of one upload go: each is hashed once and held in the ledger, by the caller or by a
// helper, in no order. Add and Wait are one thread's at a time.
class Intake {
 public:
  Intake(Ledger& ledger, Helpers& helpers) : ledger_(ledger), helpers_(helpers) {}
  // Waits for the helpers, and lets go what is held.
  ~Intake();
  Intake(const Intake&) = delete;
  Intake& operator=(const Intake&) = delete;

  // Appends a place to `digests`, which must stay where it is; the chunk's digest stands there once Wait
  // answered OK. An error may be that of an earlier chunk; after it nothing more is taken.
  absl::Status Add(std::string_view bytes, const ChunkHint& hint, std::string& digests);
  // All that was added is held.
  absl::Status Wait();

  // After Wait: the distinct chunks.
  const Ledger::ChunkSizes& held() const ABSL_NO_THREAD_SAFETY_ANALYSIS { return held_; }
  // A commit has released them.
  void Forget() ABSL_NO_THREAD_SAFETY_ANALYSIS { held_.clear(); }

 private:
  void Take(std::string_view bytes, const ChunkHint& hint, std::string& digests, size_t place, Sha256& sha);

  Ledger& ledger_;
  Helpers& helpers_;
  Sha256 sha_;  // The caller's.
  Mutex mutex_;
  CondVar done_;
  int begun_ ABSL_GUARDED_BY(mutex_) = 0;  // Chunks somebody works on.
  Ledger::ChunkSizes held_ ABSL_GUARDED_BY(mutex_);
  absl::Status failed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace bdh::store
