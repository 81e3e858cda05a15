// Who asks a daemon to leave, and how urgently.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <thread>

#include "absl/time/time.h"
#include "bdh/base/mutex.h"

namespace bdh::mesh {

// One a process. Its thread answers signals as long as the process lives, also while the daemon starts or
// drains:
//   SIGTERM, SIGINT: leave in order; a second one ends the process at once.
//   SIGHUP: the log was rotated, open it again ($BDH_LOG_FILE); without that variable as SIGTERM, because
//   then
//     it is a terminal that was closed.
// That a supervisor dies is a reason to leave, but no signal: whoever tells the daemon so once more, as
// `bdhctl down` does, does not make it leave at once.
class StopSignals {
 public:
  // From here on the signals are noted, and answered once there is an object. First thing in main: threads
  // made after are not disturbed by them.
  static void Install();

  // `forced_exit_code` is that of a process ended by a second signal.
  explicit StopSignals(int forced_exit_code);

  // From now on the death of `parent` is a reason to leave, after `delay`.
  void FollowParent(pid_t parent, absl::Duration delay);

  // Waits for a reason to leave, and says it.
  std::string Wait();

 private:
  [[noreturn]] void Answer(int forced_exit_code);

  Mutex mutex_;
  CondVar changed_;
  int requests_ ABSL_GUARDED_BY(mutex_) = 0;
  int signal_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time leave_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // Because the parent is dead.
};

}  // namespace bdh::mesh
