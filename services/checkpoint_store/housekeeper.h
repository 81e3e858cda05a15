#pragma once

#include <functional>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bdh/base/mutex.h"

namespace bdh::checkpoint_store {

// Calls a function now and then in a thread of its own, from its making to its end.
class Housekeeper {
 public:
  Housekeeper(absl::Duration interval, std::function<void()> chore);
  ~Housekeeper();  // Waits for a chore that is running.

 private:
  void Run();

  const absl::Duration interval_;
  const std::function<void()> chore_;
  Mutex mutex_;
  CondVar stop_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace bdh::checkpoint_store
