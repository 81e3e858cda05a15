#include "stop_signals.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"

namespace bdh::mesh {
namespace {

// Where a handler leaves the number of a signal, and Answer finds it.
int pipe_ends[2] = {-1, -1};

void Note(int signal_number) {
  const int error = errno;
  const char number = static_cast<char>(signal_number);
  if (write(pipe_ends[1], &number, 1) != 1) abort();  // 64 KiB of signals that nobody answers.
  errno = error;
}

// Left out where the caller ignores SIGHUP: `nohup` does so, and a blocked signal would come through all the
// same.
sigset_t Signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  struct sigaction hangup;
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&signals, SIGHUP);
  return signals;
}

const char* LogFile() {
  const char* path = std::getenv("BDH_LOG_FILE");
  return path != nullptr && *path != '\0' ? path : nullptr;
}

// Lines go on in the old file until the new one is in its place: none is lost.
void OpenLogAgain(const char* path) {
  const int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) {
    BDH_LOG(ERROR) << "cannot open the log again file=" << path << " errno=" << errno;
    return;
  }
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  close(log);
}

// Returns when `parent` is gone. A pidfd, not PR_SET_PDEATHSIG: that one fires when the parent's *thread*
// ends. Where the kernel has no pidfd, asking once a second will do.
void WaitForDeath(pid_t parent) {
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, parent, 0));
  if (descriptor < 0) {
    while (kill(parent, 0) == 0 || errno == EPERM) std::this_thread::sleep_for(std::chrono::seconds(1));
    return;
  }
  pollfd watched{descriptor, POLLIN, 0};
  while (poll(&watched, 1, -1) < 0) {
  }
  close(descriptor);
}

}  // namespace

// Handlers, not sigwait alone: libraries make threads before main (OpenBLAS does), which block nothing, and
// the kernel gives a signal to any of them.
void StopSignals::Install() {
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) abort();
  const sigset_t signals = Signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  struct sigaction action = {};
  action.sa_handler = Note;
  action.sa_flags = SA_RESTART;
  for (const int signal_number : {SIGTERM, SIGINT, SIGHUP}) {
    if (sigismember(&signals, signal_number) == 1) sigaction(signal_number, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);  // A peer that goes away is an error of its socket, not the end of the daemon.
}

StopSignals::StopSignals(int forced_exit_code) {
  // Detached: it answers until the process ends.
  std::thread([this, forced_exit_code] { Answer(forced_exit_code); }).detach();
}

void StopSignals::Answer(int forced_exit_code) {
  const sigset_t signals = Signals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  while (true) {
    char signal_number = 0;
    if (read(pipe_ends[0], &signal_number, 1) != 1) continue;
    if (const char* log = LogFile(); signal_number == SIGHUP && log != nullptr) {
      OpenLogAgain(log);
      continue;
    }
    MutexLock lock(mutex_);
    if (++requests_ > 1) {
      BDH_LOG(WARNING) << "leaving at once signal=" << int{signal_number};
      _exit(forced_exit_code);
    }
    signal_ = signal_number;
    changed_.NotifyAll();
  }
}

void StopSignals::FollowParent(pid_t parent, absl::Duration delay) {
  std::thread([this, parent, delay] {
    WaitForDeath(parent);
    BDH_LOG(WARNING) << "supervisor is gone, leaving pid=" << parent
                     << " delay=" << absl::FormatDuration(delay);
    MutexLock lock(mutex_);
    leave_at_ = absl::Now() + delay;
    changed_.NotifyAll();
  }).detach();
}

std::string StopSignals::Wait() {
  MutexLock lock(mutex_);
  while (requests_ == 0 && absl::Now() < leave_at_) {
    const absl::Duration left = std::min(leave_at_ - absl::Now(), absl::Hours(1));
    changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(left));
  }
  return requests_ > 0 ? absl::StrFormat("signal %d", signal_) : "the supervisor is gone";
}

}  // namespace bdh::mesh
