#pragma once

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/base/mutex.h"

namespace bdh::mesh {

// So many log lines a second and no more: strangers must not fill the disk. Thread-safe.
class Faucet {
 public:
  explicit Faucet(int lines_a_second) : lines_a_second_(lines_a_second) {}

  // True: write the line. `held_back` is how many were not written since the last one.
  bool Open(int& held_back) {
    MutexLock lock(mutex_);
    const absl::Time now = absl::Now();
    if (now - second_ >= absl::Seconds(1)) {
      second_ = now;
      lines_ = 0;
    }
    if (++lines_ > lines_a_second_) {
      ++held_back_;
      return false;
    }
    held_back = std::exchange(held_back_, 0);
    return true;
  }

 private:
  const int lines_a_second_;
  Mutex mutex_;
  absl::Time second_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int lines_ ABSL_GUARDED_BY(mutex_) = 0;
  int held_back_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace bdh::mesh
