#include "services/bdhctl/supervisor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/base/version.h"
#include "bdh/config/config.h"

namespace bdh::bdhctl {
namespace {

constexpr absl::Duration kGrace = absl::Seconds(5);
constexpr absl::Duration kFirstBackoff = absl::Milliseconds(250);
constexpr absl::Duration kDeathWindow = absl::Minutes(1);
constexpr absl::Duration kReadyPoll = absl::Milliseconds(20);
constexpr int kPortRetries = 3;
constexpr int kLogLines = 10;
constexpr int kExitBadConfig = 2, kExitNoExec = 127;

// One is left out where the caller ignores it: `nohup` does so with SIGHUP, and a blocked signal would come
// through all the same.
sigset_t SupervisorSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  for (const int signal_number : {SIGTERM, SIGINT, SIGHUP}) {
    struct sigaction action;
    sigaction(signal_number, nullptr, &action);
    if (action.sa_handler != SIG_IGN) sigaddset(&signals, signal_number);
  }
  return signals;
}

// The environment of a daemon: ours, without what would override the effective configuration.
std::vector<std::string> DaemonEnvironment(const std::string& log) {
  std::vector<std::string> kept;
  const google::protobuf::Descriptor& schema = *v1::Config::descriptor();
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    bool overrides = text.starts_with("BDH_PARENT_PID=") || text.starts_with("BDH_LOG_FILE=");
    for (int i = 0; i < schema.field_count(); ++i) {
      overrides = overrides || text.starts_with(absl::StrFormat(
                                   "BDH_%s_", absl::AsciiStrToUpper(schema.field(i)->name())));
    }
    if (!overrides) kept.emplace_back(text);
  }
  kept.push_back(absl::StrFormat("BDH_PARENT_PID=%d", getpid()));
  kept.push_back("BDH_LOG_FILE=" + log);  // To open again after SIGHUP, when it has been rotated.
  return kept;
}

LogLimits LimitsOf(const v1::Config& config) {
  return {.file_bytes = config.supervisor().log_file_bytes(), .files = config.supervisor().log_files()};
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// In the child, between fork and exec: system calls only.
[[noreturn]] void Become(const std::string& binary, char* const* arguments, char* const* environment,
                         int log) {
  // Its own process group: Ctrl-C at the terminal reaches the supervisor, which ends the daemons in order.
  setpgid(0, 0);
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(binary.c_str(), arguments, environment);
  dprintf(STDERR_FILENO, "cannot run %s: %s\n", binary.c_str(), strerror(errno));
  _exit(kExitNoExec);
}

}  // namespace

void BlockSupervisorSignals() {
  signal(SIGPIPE, SIG_IGN);  // A reader of what we print that goes away must not end the mesh.
  signal(SIGCHLD, SIG_DFL);  // Ignored, the kernel would throw away how children ended.
  const sigset_t signals = SupervisorSignals();
  sigprocmask(SIG_BLOCK, &signals, nullptr);
}

Supervisor::Supervisor(Options options)
    : options_(std::move(options)),
      log_limits_(LimitsOf(options_.config)),
      children_(options_.daemons.size()) {
  BDH_CHECK(options_.lock != nullptr);
  state_.data = options_.folder.path();
  state_.state = "starting";
  state_.version = Version();
  state_.supervisor = Identify(getpid()).value_or(ProcessId{});
  state_.url = options_.config.mesh().gateway_url();
  state_.drain_timeout_seconds = options_.config.mesh().drain_timeout_seconds();
  for (const std::string_view name : options_.daemons) {
    state_.daemons.push_back(PlannedState(name, options_.config, options_.folder));
  }
}

Supervisor::~Supervisor() {
  Stop();
}

absl::Status Supervisor::WriteConfig() const {
  return WriteFileAtomically(options_.folder.ConfigFile(),
                             config::ToYaml(options_.config, config::Secrets::kShow), 0600);
}

void Supervisor::SaveState() {
  if (const auto status = options_.folder.WriteState(state_); !status.ok())
    options_.say(std::string(status.message()));
}

absl::Status Supervisor::Start() {
  const absl::Time deadline = absl::Now() + options_.start_timeout;
  absl::Status status = WriteConfig();
  if (status.ok()) status = options_.folder.WriteState(state_);
  for (size_t i = 0; i < children_.size() && status.ok(); ++i) status = StartFirstTime(i, deadline);
  if (status.ok()) {
    state_.state = "up";
    status = options_.folder.WriteState(state_);
  }
  if (!status.ok()) Stop();
  return status;
}

absl::Status Supervisor::StartFirstTime(size_t index, absl::Time deadline) {
  const std::string name = daemon(index).name;
  for (int attempt = 0;; ++attempt) {
    BDH_RETURN_IF_ERROR(Spawn(index));
    absl::Status status = WaitUntilReady(index, deadline);
    if (status.ok()) return status;
    // Somebody may have taken a port since it was chosen. Daemons that run already do not know this one yet.
    const bool port_lost = absl::IsAborted(status) && daemon(index).process.pid == 0 &&
                           absl::IsAlreadyExists(CheckPorts(name, options_.config));
    if (!port_lost || attempt == kPortRetries) return status;
    BDH_ASSIGN_OR_RETURN(const auto changes, ChoosePorts(name, options_.ports, options_.config));
    for (const PortChange& change : changes) options_.say(change.ToString());
    daemon(index) = PlannedState(name, options_.config, options_.folder);
    state_.url = options_.config.mesh().gateway_url();
    BDH_RETURN_IF_ERROR(WriteConfig());
  }
}

absl::Status Supervisor::WaitUntilReady(size_t index, absl::Time deadline) {
  while (true) {
    Reap();
    if (stop_requests_ > 0) return absl::CancelledError("stopped while starting");
    const DaemonState& starting = daemon(index);
    for (const DaemonState& any : state_.daemons) {
      if (any.state == "stopped") return CouldNotStart(any);
    }
    if (IsReady(index)) break;
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrFormat("%s was not ready within %s; its log (%s) ends:\n%s", starting.name,
                          FormatDuration(absl::ToDoubleSeconds(options_.start_timeout)), starting.log,
                          LastLines(starting.log, kLogLines)));
    }
    WaitForEvent(kReadyPoll);
  }
  daemon(index).state = "running";
  SaveState();
  return absl::OkStatus();
}

absl::Status Supervisor::CouldNotStart(const DaemonState& failed) {
  const std::string message = absl::StrFormat("%s could not start (%s); its log (%s) ends:\n%s", failed.name,
                                              failed.last_exit, failed.log, LastLines(failed.log, kLogLines));
  if (failed.last_exit == absl::StrFormat("exit code %d", kExitBadConfig))
    return absl::InvalidArgumentError(message);
  return absl::AbortedError(message);
}

absl::Status Supervisor::Spawn(size_t index) {
  DaemonState& spawned = daemon(index);
  const std::string ready_file = options_.folder.ReadyFile(spawned.name);
  unlink(ready_file.c_str());
  if (LogIsFull(spawned.log, log_limits_)) RotateLog(spawned.log, log_limits_);
  // Opened here, where an error can be told; the child inherits it.
  const int log = open(spawned.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", spawned.log));

  const std::string binary = absl::StrFormat("%s/%s", options_.bin_folder, spawned.name);
  std::vector<std::string> arguments{binary, "--config", options_.folder.ConfigFile(), "--ready-file",
                                     ready_file};
  std::vector<std::string> environment = DaemonEnvironment(spawned.log);
  const std::vector<char*> argument_pointers = Pointers(arguments);
  const std::vector<char*> environment_pointers = Pointers(environment);
  const pid_t pid = fork();
  if (pid == 0) Become(binary, argument_pointers.data(), environment_pointers.data(), log);
  const int error = errno;
  close(log);
  if (pid < 0) return ErrnoStatus(error, "start " + binary);

  spawned.state = "starting";
  // The child is ours until we reap it, so its pid cannot have been used again.
  spawned.process = Identify(pid).value_or(ProcessId{pid, 0});
  SaveState();
  return absl::OkStatus();
}

bool Supervisor::IsReady(size_t index) const {
  const DaemonState& starting = state_.daemons[index];
  const auto text = ReadFile(options_.folder.ReadyFile(starting.name));
  if (!text.ok()) return false;
  const auto ready = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  return ready.is_object() && ready.value("pid", 0) == starting.process.pid;
}

void Supervisor::WaitForEvent(absl::Duration timeout) {
  const sigset_t signals = SupervisorSignals();
  const timespec time = absl::ToTimespec(timeout);
  const int signal_number = sigtimedwait(&signals, nullptr, &time);
  if (signal_number == SIGTERM || signal_number == SIGINT) ++stop_requests_;
  if (signal_number == SIGHUP) options_.on_hangup();
}

void Supervisor::Reap() {
  for (size_t i = 0; i < children_.size(); ++i) {
    DaemonState& child = daemon(i);
    int wait_status = 0;
    if (child.process.pid == 0 || waitpid(child.process.pid, &wait_status, WNOHANG) != child.process.pid)
      continue;
    child.last_exit = DescribeExit(wait_status);
    child.process = {};
    if (state_.state == "up" && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) {
      OnLeave(i);
    } else if (state_.state == "up") {
      OnDeath(i);
    } else {
      child.state = "stopped";
    }
    SaveState();
  }
}

// It was asked to leave, by SIGTERM, and did so in order: somebody wants it anew.
void Supervisor::OnLeave(size_t index) {
  children_[index].restart_at = absl::Now() + kFirstBackoff;
  daemon(index).state = "restarting";
  options_.say(absl::StrFormat("%s has left as it was asked to; it starts again", daemon(index).name));
}

void Supervisor::OnDeath(size_t index) {
  DaemonState& dead = daemon(index);
  Child& child = children_[index];
  const absl::Time now = absl::Now();
  child.deaths.push_back(now);
  while (now - child.deaths.front() > kDeathWindow) child.deaths.pop_front();
  const int deaths = static_cast<int>(child.deaths.size());
  if (deaths >= kDeathsToGiveUp) {
    dead.state = "given up";
    options_.say(absl::StrFormat(
        "%s ended with %s, for the %dth time within a minute: it is not started again. Its "
        "log (%s) ends:\n%s\n    Mend the cause, then: bdhctl down --data %s && bdhctl up --detach --data %s",
        dead.name, dead.last_exit, deaths, dead.log, LastLines(dead.log, kLogLines), state_.data,
        state_.data));
    return;
  }
  const absl::Duration backoff = kFirstBackoff * (1 << (deaths - 1));
  child.restart_at = now + backoff;
  dead.state = "restarting";
  options_.say(absl::StrFormat("%s ended with %s; it starts again in %s. Its log (%s) ends:\n%s", dead.name,
                               dead.last_exit, absl::FormatDuration(backoff), dead.log,
                               LastLines(dead.log, kLogLines)));
}

void Supervisor::RestartDue() {
  for (size_t i = 0; i < children_.size(); ++i) {
    if (children_[i].restart_at <= absl::Now()) {
      children_[i].restart_at = absl::InfiniteFuture();
      ++daemon(i).restarts;
      const auto status = Spawn(i);
      if (!status.ok()) {
        daemon(i).last_exit = std::string(status.message());
        OnDeath(i);
      }
    } else if (daemon(i).state == "starting" && IsReady(i)) {
      daemon(i).state = "running";
      options_.say(absl::StrFormat("%s is back (pid %d)", daemon(i).name, daemon(i).process.pid));
      SaveState();
    }
  }
}

absl::Duration Supervisor::UntilNextRestart() const {
  absl::Time next = absl::Now() + absl::Seconds(1);
  for (size_t i = 0; i < children_.size(); ++i) {
    next = std::min(next, children_[i].restart_at);
    if (state_.daemons[i].state == "starting") next = std::min(next, absl::Now() + kReadyPoll);
  }
  return std::max(next - absl::Now(), absl::ZeroDuration());
}

void Supervisor::Run() {
  while (stop_requests_ == 0) {
    WaitForEvent(UntilNextRestart());
    Reap();
    RestartDue();
    RotateLogs();
  }
}

// Renames first, then tells: until the daemon has opened the new file, its lines go on in the old one. One
// that is starting may not listen for SIGHUP yet.
void Supervisor::RotateLogs() {
  for (const DaemonState& running : state_.daemons) {
    if (running.state != "running" || !LogIsFull(running.log, log_limits_)) continue;
    RotateLog(running.log, log_limits_);
    kill(running.process.pid, SIGHUP);
  }
}

void Supervisor::Stop() {
  if (state_.state == "stopped") return;
  state_.state = "stopping";
  SaveState();
  stop_requests_ = 0;
  const absl::Duration patience = absl::Seconds(state_.drain_timeout_seconds) + kGrace;
  for (const auto& wave : kStopWaves) {
    std::vector<size_t> indices;
    for (size_t i = 0; i < children_.size(); ++i) {
      if (std::find(wave.begin(), wave.end(), daemon(i).name) != wave.end()) indices.push_back(i);
    }
    EndAll(indices, patience);
  }
  state_.state = "stopped";
  options_.folder.RemoveState(*options_.lock);
}

void Supervisor::EndAll(const std::vector<size_t>& indices, absl::Duration patience) {
  const auto signal_all = [&](int signal_number) {
    for (const size_t i : indices) {
      if (daemon(i).process.pid > 0) kill(daemon(i).process.pid, signal_number);
    }
  };
  const auto any_left = [&] {
    Reap();
    return std::any_of(indices.begin(), indices.end(), [&](size_t i) { return daemon(i).process.pid > 0; });
  };
  if (stop_requests_ == 0) signal_all(SIGTERM);
  const absl::Time deadline = absl::Now() + patience;
  while (stop_requests_ == 0 && any_left() && absl::Now() < deadline) WaitForEvent(absl::Milliseconds(50));
  if (!any_left()) return;
  if (stop_requests_ == 0) options_.say("not all left in time; ending them by force (SIGKILL)");
  signal_all(SIGKILL);
  while (any_left()) WaitForEvent(absl::Milliseconds(50));
}

}  // namespace bdh::bdhctl
