// Starts the daemons of a mesh, keeps them running, and ends them.
#pragma once

#include <signal.h>

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "bdh/base/file.h"
#include "bdh/v1/config.pb.h"
#include "services/bdhctl/log_files.h"
#include "services/bdhctl/mesh_folder.h"
#include "services/bdhctl/mesh_plan.h"

namespace bdh::bdhctl {

// Blocks, in this thread, the signals that a Supervisor waits for. Call before there are other threads.
void BlockSupervisorSignals();

// Single-threaded; the whole process is its own while Run lasts, and children that it did not start are none
// of its business.
class Supervisor {
 public:
  struct Options {
    MeshFolder folder;
    const FileLock* lock = nullptr;  // The folder's. Outlives the supervisor.
    v1::Config config;               // Effective, with ports chosen; changes only if one is taken after all.
    PortChooser ports;               // That chose them.
    std::vector<std::string_view> daemons;  // Of kDaemons and in their order: those to run.
    std::string bin_folder;                 // Where the daemons' executables are.
    absl::Duration start_timeout = absl::Seconds(60);
    // Tells a person what happens.
    std::function<void(std::string_view)> say;
    // The terminal is gone. The mesh goes on without it.
    std::function<void()> on_hangup = [] {};
  };

  // A daemon that dies so often within a minute is given up. One that leaves because it was told to does not
  // count.
  static constexpr int kDeathsToGiveUp = 5;

  explicit Supervisor(Options options);
  ~Supervisor();  // Stop().

  // Starts the daemons one after the other, each when those before it are ready. On failure none is left
  // running, and the message holds the last log lines of the one that failed. CancelledError: asked to stop
  // meanwhile. InvalidArgumentError: a daemon refused its configuration.
  absl::Status Start();

  // Restarts daemons that die, and rotates logs that grow, until SIGTERM or SIGINT asks to stop.
  void Run();

  // Ends all: those first that need others to end well. A further signal to stop ends them at once.
  void Stop();

  const MeshState& state() const { return state_; }

 private:
  struct Child {
    std::deque<absl::Time> deaths = {};  // Of the last minute.
    absl::Time restart_at = absl::InfiniteFuture();
  };

  DaemonState& daemon(size_t index) { return state_.daemons[index]; }
  absl::Status WriteConfig() const;
  void SaveState();

  absl::Status StartFirstTime(size_t index, absl::Time deadline);
  absl::Status WaitUntilReady(size_t index, absl::Time deadline);
  absl::Status Spawn(size_t index);
  bool IsReady(size_t index) const;
  static absl::Status CouldNotStart(const DaemonState& failed);

  // Waits for a signal or the end of `timeout`, and notes what it meant.
  void WaitForEvent(absl::Duration timeout);
  void Reap();
  void OnLeave(size_t index);
  void OnDeath(size_t index);
  void RestartDue();
  absl::Duration UntilNextRestart() const;
  void RotateLogs();
  void EndAll(const std::vector<size_t>& indices, absl::Duration patience);

  Options options_;
  const LogLimits log_limits_;
  MeshState state_;
  std::vector<Child> children_;
  int stop_requests_ = 0;
};

}  // namespace bdh::bdhctl
