// Processes by identity, not by number: a pid may be used again, a pid with its start time may not.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace bdh::bdhctl {

struct ProcessId {
  pid_t pid = 0;
  uint64_t start_ticks = 0;  // Since boot, as the kernel counts them.

  bool operator==(const ProcessId&) const = default;
};

// Who has this pid now; nothing when no process has it, or only the remains of one that has ended.
std::optional<ProcessId> Identify(pid_t pid);

bool IsAlive(const ProcessId& process);

// Returns whether the process was there to be signalled (and is ours to signal).
bool Signal(const ProcessId& process, int signal_number);

// Returns false when some are still there after `timeout`.
bool WaitUntilGone(const std::vector<ProcessId>& processes, absl::Duration timeout);

// What waitpid's status means: "exit code 1", "signal 9 (Killed)".
std::string DescribeExit(int wait_status);

// Folder of the running executable: where its siblings, the daemons, are.
std::string ExecutableFolder();

}  // namespace bdh::bdhctl
