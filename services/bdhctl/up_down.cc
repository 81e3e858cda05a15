// bdhctl up, bdhctl down: a mesh on this machine.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/mesh/credentials.h"
#include "services/bdhctl/certs.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/detach.h"
#include "services/bdhctl/log_printer.h"
#include "services/bdhctl/mesh_plan.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/registry.h"
#include "services/bdhctl/supervisor.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kGrace = absl::Seconds(5);
constexpr absl::Duration kPoll = absl::Milliseconds(50);
constexpr std::string_view kIsUp = "the mesh is up";  // In the log: who waits is told more.

struct UpFlags {
  std::string data, config;
  std::vector<std::string> sets, only;
  bool detach = false, insecure = false, json = false, tls = false;
  double timeout_seconds = 60;
};

struct DownFlags {
  std::string data;
  bool now = false, json = false;
};

std::string UpFolder(const std::string& data) {
  if (!data.empty()) return data;
  const char* chosen = std::getenv("BDH_DATA");
  return chosen != nullptr && *chosen != '\0' ? chosen : kDefaultData;
}

// What `up` prints in the end.
std::string Describe(const MeshState& state, const std::vector<PortChange>& changes, bool already_up,
                     bool json) {
  if (json) {
    Json out = Json::parse(ToJson(state));
    out["already_up"] = already_up;
    out["ports_changed"] = Json::array();
    for (const PortChange& change : changes) {
      out["ports_changed"].push_back({{"daemon", change.daemon},
                                      {"purpose", change.purpose},
                                      {"wanted", change.wanted},
                                      {"given", change.given},
                                      {"reason", change.reason}});
    }
    return out.dump(2, ' ', false, Json::error_handler_t::replace);
  }
  Table table({"DAEMON", "ADDRESS", "ADMIN", ">PID"});
  for (const DaemonState& daemon : state.daemons) {
    table.Add({daemon.name, daemon.address, daemon.admin_address, std::to_string(daemon.process.pid)});
  }
  return absl::StrFormat("%sThe mesh is %sup in %s; its gateway answers at %s", table.ToString(),
                         already_up ? "already " : "", state.data, state.url);
}

// Ends daemons whose supervisor was killed, in the same waves as it would have. They drain on their own, but
// the store waits then, because it cannot know who still wants to save. False: some do not go, not even by
// force.
bool EndLeftovers(const MeshState& state) {
  const absl::Duration patience = absl::Seconds(state.drain_timeout_seconds) + kGrace;
  bool all_gone = true;
  for (const auto& wave : kStopWaves) {
    std::vector<ProcessId> processes;
    for (const std::string_view name : wave) {
      if (const DaemonState* daemon = state.Find(name); daemon != nullptr)
        processes.push_back(daemon->process);
    }
    for (const ProcessId& process : processes) Signal(process, SIGTERM);
    if (WaitUntilGone(processes, patience)) continue;
    for (const ProcessId& process : processes) Signal(process, SIGKILL);
    all_gone = WaitUntilGone(processes, kGrace) && all_gone;
  }
  return all_gone;
}

void AwaitLeftovers(const MeshFolder& folder) {
  const auto state = folder.ReadState();
  if (!state.ok() || state->LiveDaemons().empty()) return;
  std::cerr << "bdhctl: waiting for " << state->LiveDaemons().size() << " daemons of an earlier mesh to leave"
            << std::endl;
  EndLeftovers(*state);
}

// The folder's lock is taken. The exit code, or nothing: the mesh there ends after all, so that it is worth
// another look.
std::optional<int> OnFolderInUse(const UpFlags& flags, const MeshFolder& folder, const absl::Status& busy,
                                 absl::Time deadline) {
  auto state = folder.ReadRunningState();
  while (flags.detach && state.ok() && state->state == "starting" && absl::Now() < deadline) {
    absl::SleepFor(kPoll);
    state = folder.ReadRunningState();
  }
  if (flags.detach && state.ok() && state->state == "up") {
    if (!flags.config.empty() || !flags.sets.empty() || !flags.only.empty()) {
      std::cerr
          << "bdhctl: the mesh keeps the configuration it was started with; for a new one: bdhctl down first"
          << std::endl;
    }
    std::cout << Describe(*state, {}, /*already_up=*/true, flags.json) << std::endl;
    return kExitOk;
  }
  if ((!state.ok() || state->state == "stopping") && absl::Now() < deadline) return std::nullopt;
  std::cerr << "bdhctl: " << busy.message() << std::endl;
  return kExitFolderInUse;
}

struct Plan {
  std::vector<std::string_view> daemons;
  v1::Config config;
  PortChooser ports;
  std::vector<PortChange> changes;
};

// Those that were asked for, in the order they start.
absl::StatusOr<std::vector<std::string_view>> ChooseDaemons(const std::vector<std::string>& only) {
  std::vector<std::string_view> wanted;
  for (const std::string& text : only) {
    BDH_ASSIGN_OR_RETURN(wanted.emplace_back(), FindDaemon(text));
  }
  std::vector<std::string_view> chosen;
  std::copy_if(kDaemons.begin(), kDaemons.end(), std::back_inserter(chosen), [&](std::string_view daemon) {
    return wanted.empty() || std::find(wanted.begin(), wanted.end(), daemon) != wanted.end();
  });
  return chosen;
}

absl::StatusOr<Plan> MakePlan(const MeshFolder& folder, std::vector<std::string_view> daemons,
                              v1::Config config) {
  Plan plan{.daemons = std::move(daemons), .config = std::move(config), .ports = {}, .changes = {}};
  PlaceUnder(folder, plan.config);
  if (plan.config.mesh().token_file() == folder.TokenFile()) BDH_RETURN_IF_ERROR(folder.EnsureToken());
  for (const std::string& name : CertificateNames()) {
    BDH_RETURN_IF_ERROR(mesh::Credentials::Load(plan.config.mesh(), name).status());
  }
  for (const std::string_view daemon : plan.daemons) {
    BDH_ASSIGN_OR_RETURN(auto changes, ChoosePorts(daemon, plan.ports, plan.config));
    std::move(changes.begin(), changes.end(), std::back_inserter(plan.changes));
  }
  return plan;
}

// What the supervisor and the person who started it have to do with each other.
struct Terminal {
  std::function<void(std::string_view)> say;        // What happens.
  std::function<void(int, std::string_view)> done;  // How the start went, with the exit code.
  std::function<void()> on_hangup = [] {};
};

LogLimits Limits(const Plan& plan) {
  return {.file_bytes = plan.config.supervisor().log_file_bytes(),
          .files = plan.config.supervisor().log_files()};
}

// From here on this process is the supervisor.
void Supervise(const UpFlags& flags, const MeshFolder& folder, const FileLock& lock, Plan plan,
               const Terminal& terminal) {
  const auto& [say, done, on_hangup] = terminal;
  for (const PortChange& change : plan.changes) say(change.ToString());
  Supervisor supervisor({.folder = folder,
                         .lock = &lock,
                         .config = std::move(plan.config),
                         .ports = std::move(plan.ports),
                         .daemons = std::move(plan.daemons),
                         .bin_folder = ExecutableFolder(),
                         .start_timeout = absl::Seconds(flags.timeout_seconds),
                         .say = say,
                         .on_hangup = on_hangup});
  if (const auto status = supervisor.Start(); !status.ok()) {
    done(absl::IsInvalidArgument(status) ? kExitUsage : kExitFailed,
         absl::StrFormat("bdhctl: %s", status.message()));
    return;
  }
  const Registry registry = Registry::OfUser();
  if (const auto status = registry.Remember(folder); !status.ok()) {
    say(absl::StrFormat("commands need --data %s to find this mesh: %s", folder.path(), status.message()));
  }
  done(kExitOk, Describe(supervisor.state(), plan.changes, /*already_up=*/false, flags.json));
  supervisor.Run();
  say("stopping the mesh");
  supervisor.Stop();
  registry.Forget(folder);
  say("the mesh is down");
}

// A terminal that was closed: nothing that is written there may hold us up.
void LeaveTerminal() {
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(nothing, descriptor);
}

// Everything but the result of the start goes through the logs, which a thread shows: whatever the terminal
// does, the supervisor goes on.
int SuperviseInForeground(const UpFlags& flags, const MeshFolder& folder, const FileLock& lock, Plan plan) {
  int exit_code = kExitOk;
  LogWriter log(folder.LogFile("supervisor"), Limits(plan));
  std::vector<std::string_view> shown = plan.daemons;
  shown.push_back("supervisor");
  std::optional<LogFollower> follower(std::in_place,
                                      LogPrinter(LogSources(folder, shown), 0, StyleFor(stderr), stderr));
  const bool on_terminal = isatty(STDERR_FILENO) != 0;
  Terminal terminal;
  terminal.say = [&](std::string_view text) { log.Write(text); };
  terminal.done = [&](int code, std::string_view text) {
    exit_code = code;
    if (code == kExitOk) log.Write(kIsUp);
    if (code != kExitOk) follower.reset();  // Its last lines first.
    (code == kExitOk ? std::cout : std::cerr) << text << std::endl;
    if (code == kExitOk) std::cerr << "Ctrl-C ends it." << std::endl;
  };
  terminal.on_hangup = [&] {
    if (!on_terminal) return;
    log.Write("the terminal is gone; the mesh goes on; end it with: bdhctl down --data " + folder.path());
    LeaveTerminal();
  };
  Supervise(flags, folder, lock, std::move(plan), terminal);
  return exit_code;
}

int SuperviseDetached(const UpFlags& flags, const MeshFolder& folder, const FileLock& lock, Plan plan) {
  const std::string log_file = folder.LogFile("supervisor");
  const LogLimits limits = Limits(plan);
  return RunDetached(
      log_file,
      [&](Reporter& reporter) {
        LogWriter log(log_file, limits, {STDOUT_FILENO, STDERR_FILENO});
        Terminal terminal;
        terminal.say = [&](std::string_view text) {
          log.Write(text);
          reporter.Say(text);
        };
        terminal.done = [&](int code, std::string_view text) {
          log.Write(code == kExitOk ? kIsUp : text);
          reporter.Done(code, text);
        };
        Supervise(flags, folder, lock, std::move(plan), terminal);
      },
      [](std::string_view text) { std::cout << text << std::endl; });
}

absl::StatusOr<int> RunUp(const UpFlags& flags) {
  std::vector<std::string> sets = flags.sets;
  if (flags.insecure) sets.push_back("gateway.insecure=true");
  BDH_ASSIGN_OR_RETURN(
      v1::Config config,
      LoadConfig({.file = flags.config, .sets = sets, .environment = config::Environment()}));
  BDH_ASSIGN_OR_RETURN(std::vector<std::string_view> daemons, ChooseDaemons(flags.only));
  const MeshFolder folder(UpFolder(flags.data));
  BDH_RETURN_IF_ERROR(folder.Create());
  const absl::Time deadline = absl::Now() + absl::Seconds(flags.timeout_seconds);
  std::optional<absl::StatusOr<FileLock>> lock(folder.Lock());
  while (absl::IsFailedPrecondition(lock->status())) {
    if (const auto code = OnFolderInUse(flags, folder, lock->status(), deadline)) return *code;
    absl::SleepFor(kPoll);
    lock.emplace(folder.Lock());
  }
  BDH_RETURN_IF_ERROR(lock->status());
  BDH_RETURN_IF_ERROR(folder.Create());  // Again: a mesh that has just ended has taken its part away.
  AwaitLeftovers(folder);
  if (flags.tls) BDH_RETURN_IF_ERROR(UseCertificatesOf(folder, config));
  BDH_ASSIGN_OR_RETURN(Plan plan, MakePlan(folder, std::move(daemons), std::move(config)));
  // Before the fork and before the thread that prints.
  BlockSupervisorSignals();
  return (flags.detach ? SuperviseDetached : SuperviseInForeground)(flags, folder, **lock, std::move(plan));
}

// Everything of the mesh that `state` tells of and that is there now, also what its supervisor has started
// since.
std::vector<ProcessId> AllProcesses(const MeshFolder& folder, const MeshState& state) {
  const auto newer = folder.ReadState();
  const MeshState& mesh = newer.ok() && newer->supervisor == state.supervisor ? *newer : state;
  std::vector<ProcessId> processes = mesh.LiveDaemons();
  // First, so that it starts nothing again.
  if (IsAlive(mesh.supervisor)) processes.insert(processes.begin(), mesh.supervisor);
  return processes;
}

// Returns false when some did not go in time.
bool StopInOrder(const MeshFolder& folder, const MeshState& state) {
  if (!IsAlive(state.supervisor)) return EndLeftovers(state);
  // A second SIGTERM would mean: by force.
  if (state.state != "stopping") Signal(state.supervisor, SIGTERM);
  const absl::Duration patience = absl::Seconds(state.drain_timeout_seconds) + kGrace;
  return WaitUntilGone(AllProcesses(folder, state), kStopWaves.size() * patience + kGrace);
}

absl::Status StopMesh(const MeshFolder& folder, const MeshState& state, bool now) {
  if (!now) {
    if (StopInOrder(folder, state)) return absl::OkStatus();
    std::cerr << "bdhctl: not all left in time; ending them by force (SIGKILL)" << std::endl;
  }
  const std::vector<ProcessId> processes = AllProcesses(folder, state);
  for (const ProcessId& process : processes) Signal(process, SIGKILL);
  if (WaitUntilGone(processes, kGrace)) return absl::OkStatus();
  return absl::InternalError(
      absl::StrFormat("some processes of the mesh in %s do not end, not even by force; "
                      "they are another user's, or wait for a disk",
                      folder.path()));
}

// What says that the mesh runs, unless another has begun here meanwhile.
void ForgetMesh(const MeshFolder& folder) {
  const auto lock = folder.Lock();
  if (!lock.ok()) return;
  folder.RemoveState(*lock);
  Registry::OfUser().Forget(folder);
}

// One `down` at a time: the next one finds nothing to do, and does not turn the first one's order into force.
absl::StatusOr<FileLock> QueueForDown(const MeshFolder& folder, const MeshState& state) {
  const absl::Time deadline =
      absl::Now() + (kStopWaves.size() + 1) * (absl::Seconds(state.drain_timeout_seconds) + 2 * kGrace);
  while (true) {
    auto lock = FileLock::Acquire(folder.Path("down.lock"), "another `bdhctl down` does not come to its end");
    if (!absl::IsFailedPrecondition(lock.status()) || absl::Now() >= deadline) return lock;
    absl::SleepFor(kPoll);
  }
}

int PrintDown(const DownFlags& flags, const std::string& data, bool was_up) {
  if (flags.json) {
    PrintJson({{"data", data}, {"was_up", was_up}});
  } else if (was_up) {
    std::cout << "The mesh in " << data << " is down." << std::endl;
  } else {
    std::cout << "No mesh was up" << (data.empty() ? "." : " in " + data + ".") << std::endl;
  }
  return kExitOk;
}

absl::StatusOr<int> RunDown(const DownFlags& flags) {
  // Daemons may be left without their supervisor, so the folder counts, not whether a mesh is up there.
  const MeshFolder folder = FindFolder(flags.data);
  auto state = folder.ReadState();
  if (!state.ok()) return PrintDown(flags, flags.data.empty() ? "" : folder.path(), /*was_up=*/false);
  std::optional<FileLock> alone;
  if (!flags.now) {
    auto turn = QueueForDown(folder, *state);
    BDH_RETURN_IF_ERROR(turn.status());
    alone.emplace(*std::move(turn));
    state = folder.ReadState();
    if (!state.ok()) return PrintDown(flags, folder.path(), /*was_up=*/false);
  }
  const bool was_up = !AllProcesses(folder, *state).empty();
  BDH_RETURN_IF_ERROR(StopMesh(folder, *state, flags.now));
  ForgetMesh(folder);
  return PrintDown(flags, folder.path(), was_up);
}

}  // namespace

void AddUpDownCommands(CLI::App& app, Invocation& invocation) {
  AddCommand<UpFlags>(
      app, invocation, "up", "Start the five daemons on this machine and keep them running",
      [](CLI::App& command, UpFlags& flags) {
        command
            .add_option("--data", flags.data,
                        "Folder for everything the mesh keeps (default: $BDH_DATA, ./bdh-data)")
            ->type_name("DIR");
        command.add_flag("--detach,-d", flags.detach, "Return when all are ready and leave them running");
        command.add_option("--config", flags.config, "YAML or JSON file; without it the defaults hold")
            ->type_name("FILE");
        AddSetFlag(command, flags.sets);
        command.add_flag(
            "--tls", flags.tls,
            "Encrypt all calls and demand certificates; makes those of DIR/tls if there are none");
        command
            .add_option("--only", flags.only, "Start these alone: store, loader, trainer, inference, gateway")
            ->type_name("A,B")
            ->delimiter(',');
        command.add_flag(
            "--insecure", flags.insecure,
            "Let the gateway listen beyond loopback without API keys (--set gateway.insecure=true)");
        command.add_option("--timeout", flags.timeout_seconds, "How long all may take to get ready")
            ->type_name("SECONDS")
            ->capture_default_str()
            ->check(CLI::Range(0.1, 3600.0));
        AddJsonFlag(command, flags.json);
        command.footer(
            "Ports that are taken are replaced by free ones, and named. A daemon that dies is started "
            "again.\n"
            "Without --detach the logs are shown; Ctrl-C ends the mesh in order, a second one at once. A "
            "terminal\n"
            "that is closed ends nothing: bdhctl down does.\n\n"
            "Examples:\n"
            "  bdhctl up --detach\n"
            "  bdhctl up --data /srv/bdh --set gateway.http_listen=127.0.0.1:9000\n"
            "  bdhctl up --config configs/large.yaml --detach");
      },
      RunUp);
  AddCommand<DownFlags>(
      app, invocation, "down", "End a mesh that `up` started; what it keeps stays",
      [](CLI::App& command, DownFlags& flags) {
        AddDataFlag(command, flags.data);
        command.add_flag(
            "--now", flags.now,
            "By force (SIGKILL), without finishing or saving: costs the steps since the last checkpoint");
        AddJsonFlag(command, flags.json);
        command.footer("Ends 0 as well when no mesh is up.");
      },
      RunDown);
}

}  // namespace bdh::bdhctl
