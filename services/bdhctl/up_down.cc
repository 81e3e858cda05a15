// bdhctl up, bdhctl down: a mesh on this machine.
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
#include "services/bdhctl/mesh_plan.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/registry.h"
#include "services/bdhctl/supervisor.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kGrace = absl::Seconds(5);
constexpr int kStopWaves = 3;  // Supervisor::Stop ends the daemons in so many groups.

struct UpFlags {
  std::string data, config;
  std::vector<std::string> sets;
  bool detach = false, json = false, tls = false;
  double timeout_seconds = 60;
};

struct DownFlags {
  std::string data;
  bool json = false;
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

// The daemons of a supervisor that was killed drain on their own; this waits for them, or ends them.
void AwaitLeftovers(const MeshFolder& folder) {
  const auto state = folder.ReadState();
  if (!state.ok()) return;
  const std::vector<ProcessId> left = state->LiveDaemons();
  if (left.empty()) return;
  std::cerr << "bdhctl: waiting for " << left.size() << " daemons of an earlier mesh to leave" << std::endl;
  for (const ProcessId& process : left) Signal(process, SIGTERM);
  if (WaitUntilGone(left, absl::Seconds(state->drain_timeout_seconds) + kGrace)) return;
  for (const ProcessId& process : left) Signal(process, SIGKILL);
  WaitUntilGone(left, kGrace);
}

// The folder's lock is taken: by a mesh that is up, starts or ends.
absl::StatusOr<int> OnFolderInUse(const UpFlags& flags, const MeshFolder& folder, const absl::Status& busy) {
  const absl::Time deadline = absl::Now() + absl::Seconds(flags.timeout_seconds);
  auto state = folder.ReadRunningState();
  while (flags.detach && state.ok() && state->state == "starting" && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(50));
    state = folder.ReadRunningState();
  }
  if (flags.detach && state.ok() && state->state == "up") {
    if (!flags.config.empty() || !flags.sets.empty()) {
      std::cerr
          << "bdhctl: the mesh keeps the configuration it was started with; for a new one: bdhctl down first"
          << std::endl;
    }
    std::cout << Describe(*state, {}, /*already_up=*/true, flags.json) << std::endl;
    return kExitOk;
  }
  std::cerr << "bdhctl: " << busy.message() << std::endl;
  return kExitFolderInUse;
}

struct Plan {
  v1::Config config;
  PortChooser ports;
  std::vector<PortChange> changes;
};

absl::StatusOr<Plan> MakePlan(const MeshFolder& folder, v1::Config config) {
  Plan plan{.config = std::move(config), .ports = {}, .changes = {}};
  PlaceUnder(folder, plan.config);
  if (plan.config.mesh().token_file() == folder.TokenFile()) BDH_RETURN_IF_ERROR(folder.EnsureToken());
  for (const std::string& name : CertificateNames()) {
    BDH_RETURN_IF_ERROR(mesh::Credentials::Load(plan.config.mesh(), name).status());
  }
  for (const std::string_view daemon : kDaemons) {
    BDH_ASSIGN_OR_RETURN(auto changes, ChoosePorts(daemon, plan.ports, plan.config));
    std::move(changes.begin(), changes.end(), std::back_inserter(plan.changes));
  }
  return plan;
}

// From here on this process is the supervisor. `say` tells what happens, `done` how the start went.
void Supervise(const UpFlags& flags, const MeshFolder& folder, Plan plan,
               const std::function<void(std::string_view)>& say,
               const std::function<void(int, std::string_view)>& done) {
  BlockSupervisorSignals();
  for (const PortChange& change : plan.changes) say(change.ToString());
  Supervisor supervisor({.folder = folder,
                         .config = std::move(plan.config),
                         .ports = std::move(plan.ports),
                         .bin_folder = ExecutableFolder(),
                         .start_timeout = absl::Seconds(flags.timeout_seconds),
                         .say = say});
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

int SuperviseInForeground(const UpFlags& flags, const MeshFolder& folder, Plan plan) {
  int exit_code = kExitOk;
  const auto say = [](std::string_view text) { std::cerr << "bdhctl: " << text << std::endl; };
  const auto done = [&](int code, std::string_view text) {
    exit_code = code;
    (code == kExitOk ? std::cout : std::cerr) << text << std::endl;
    if (code == kExitOk) std::cerr << "Ctrl-C ends it." << std::endl;
  };
  Supervise(flags, folder, std::move(plan), say, done);
  return exit_code;
}

absl::StatusOr<int> RunUp(const UpFlags& flags) {
  BDH_ASSIGN_OR_RETURN(
      v1::Config config,
      LoadConfig({.file = flags.config, .sets = flags.sets, .environment = config::Environment()}));
  const MeshFolder folder(UpFolder(flags.data));
  BDH_RETURN_IF_ERROR(folder.Create());
  const auto lock = folder.Lock();
  if (absl::IsFailedPrecondition(lock.status())) return OnFolderInUse(flags, folder, lock.status());
  BDH_RETURN_IF_ERROR(lock.status());
  AwaitLeftovers(folder);
  if (flags.tls) BDH_RETURN_IF_ERROR(UseCertificatesOf(folder, config));
  BDH_ASSIGN_OR_RETURN(Plan plan, MakePlan(folder, std::move(config)));
  if (!flags.detach) return SuperviseInForeground(flags, folder, std::move(plan));
  return RunDetached(
      folder.LogFile("supervisor"),
      [&](Reporter& reporter) {
        Supervise(
            flags, folder, std::move(plan), [&](std::string_view text) { reporter.Say(text); },
            [&](int code, std::string_view text) { reporter.Done(code, text); });
      },
      [](std::string_view text) { std::cout << text << std::endl; });
}

// Everything of the mesh in `folder` that is there now.
std::vector<ProcessId> AllProcesses(const MeshFolder& folder) {
  const auto state = folder.ReadState();
  if (!state.ok()) return {};
  std::vector<ProcessId> processes = state->LiveDaemons();
  // First, so that it starts nothing again.
  if (IsAlive(state->supervisor)) processes.insert(processes.begin(), state->supervisor);
  return processes;
}

absl::Status StopMesh(const MeshFolder& folder, const MeshState& state) {
  std::vector<ProcessId> processes = AllProcesses(folder);
  absl::Duration patience = absl::Seconds(state.drain_timeout_seconds) + kGrace;
  if (Signal(state.supervisor, SIGTERM)) {
    patience = kStopWaves * patience + kGrace;
  } else {
    for (const ProcessId& process : processes) Signal(process, SIGTERM);
  }
  if (WaitUntilGone(processes, patience)) return absl::OkStatus();
  std::cerr << "bdhctl: not all left in time; ending them by force (SIGKILL)" << std::endl;
  // Asked anew: the supervisor may have started some since.
  for (const ProcessId& process : AllProcesses(folder)) {
    processes.push_back(process);
    Signal(process, SIGKILL);
  }
  if (WaitUntilGone(processes, kGrace)) return absl::OkStatus();
  return absl::InternalError(
      absl::StrFormat("some processes of the mesh in %s do not end, not even by force; "
                      "they are another user's, or wait for a disk",
                      folder.path()));
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
  std::optional<MeshFolder> folder;
  if (auto found = FindRunningFolder(flags.data); found.ok()) {
    folder = *std::move(found);
  } else {
    // Daemons may be left without their supervisor.
    folder = MeshFolder(UpFolder(flags.data));
  }
  const auto state = folder->ReadState();
  if (!state.ok()) return PrintDown(flags, flags.data.empty() ? "" : folder->path(), /*was_up=*/false);
  const bool was_up = !AllProcesses(*folder).empty();
  BDH_RETURN_IF_ERROR(StopMesh(*folder, *state));
  folder->RemoveState();
  Registry::OfUser().Forget(*folder);
  return PrintDown(flags, folder->path(), was_up);
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
        command.add_option("--timeout", flags.timeout_seconds, "How long all may take to get ready")
            ->type_name("SECONDS")
            ->capture_default_str()
            ->check(CLI::Range(0.1, 3600.0));
        AddJsonFlag(command, flags.json);
        command.footer(
            "Ports that are taken are replaced by free ones, and named. A daemon that dies is started "
            "again.\n"
            "Without --detach, Ctrl-C ends the mesh in order; a second one at once.\n\n"
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
        AddJsonFlag(command, flags.json);
        command.footer("Ends 0 as well when no mesh is up.");
      },
      RunDown);
}

}  // namespace bdh::bdhctl
