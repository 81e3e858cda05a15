// Waiting for a daemon that is away: longer each time, up to a limit, and never longer than asked to stop.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <stop_token>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace bdh::trainer_worker {

// Errors that pass: the daemon restarts, is full, or the connection broke.
inline bool IsTransient(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kUnknown:
      return true;
    default:
      return false;
  }
}

// Returns early when `stop` is requested.
inline void Pause(absl::Duration duration, std::stop_token stop) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any condition;
  condition.wait_for(lock, stop, absl::ToChronoMilliseconds(duration), [] { return false; });
}

class Backoff {
 public:
  // Patience begins with the first failure: a long transfer that breaks at its end has used none of it.
  explicit Backoff(absl::Duration patience) : patience_(patience) {}

  // After a success: patience begins anew.
  void Reset() {
    since_.reset();
    pause_ = kFirstPause;
  }

  // Sleeps before the next attempt. False when patience is over or `stop` is requested.
  bool Wait(std::stop_token stop) {
    if (!since_) since_ = absl::Now();
    if (stop.stop_requested() || absl::Now() - *since_ + pause_ > patience_) return false;
    Pause(pause_, stop);
    pause_ = std::min(2 * pause_, kLongestPause);
    return !stop.stop_requested();
  }

 private:
  static constexpr absl::Duration kFirstPause = absl::Milliseconds(100);
  static constexpr absl::Duration kLongestPause = absl::Seconds(5);
  const absl::Duration patience_;
  std::optional<absl::Time> since_;  // Of the first failure in a row.
  absl::Duration pause_ = kFirstPause;
};

}  // namespace bdh::trainer_worker
