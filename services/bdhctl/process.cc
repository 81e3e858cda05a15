#include "services/bdhctl/process.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"

namespace bdh::bdhctl {

std::optional<ProcessId> Identify(pid_t pid) {
  if (pid <= 0) return std::nullopt;
  const auto stat = ReadFile(absl::StrFormat("/proc/%d/stat", pid));
  if (!stat.ok()) return std::nullopt;
  // "pid (name) state ppid ...": the name may hold anything, so fields are counted from its closing bracket.
  const size_t name_end = stat->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  const std::vector<std::string> fields =
      absl::StrSplit(stat->substr(name_end + 1), ' ', absl::SkipWhitespace());
  constexpr size_t kState = 0, kStartTime = 19;  // Fields 3 and 22 of proc(5).
  ProcessId process{pid, 0};
  if (fields.size() <= kStartTime || !absl::SimpleAtoi(fields[kStartTime], &process.start_ticks)) {
    return std::nullopt;
  }
  if (fields[kState] == "Z" || fields[kState] == "X") return std::nullopt;
  return process;
}

bool IsAlive(const ProcessId& process) {
  return Identify(process.pid) == process;
}

bool Signal(const ProcessId& process, int signal_number) {
  // The pidfd is taken first: once the identity is checked, it can mean no other process.
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0));
  const absl::Cleanup closer = [&] {
    if (descriptor >= 0) close(descriptor);
  };
  if (!IsAlive(process)) return false;
  if (descriptor < 0) return kill(process.pid, signal_number) == 0;
  return syscall(SYS_pidfd_send_signal, descriptor, signal_number, nullptr, 0) == 0;
}

bool WaitUntilGone(const std::vector<ProcessId>& processes, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (std::any_of(processes.begin(), processes.end(), IsAlive)) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

std::string DescribeExit(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    return absl::StrFormat("signal %d (%s)", WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
  }
  return absl::StrFormat("exit code %d", WEXITSTATUS(wait_status));
}

std::string ExecutableFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

}  // namespace bdh::bdhctl
