// bdhctl status: how the daemons are.
#include <unistd.h>

#include <algorithm>
#include <future>
#include <iostream>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/log_files.h"
#include "services/bdhctl/mesh_plan.h"
#include "services/bdhctl/output.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kTimeout = absl::Seconds(3);
constexpr int kLogLines = 5;

struct StatusFlags {
  MeshFlags mesh;
  bool watch = false;
  double interval_seconds = 2;
};

// One daemon: what it says of itself, and what its supervisor says of it.
struct Report {
  std::string name;
  std::string address;
  absl::StatusOr<v1::GetStatusResponse> answer;
  std::optional<DaemonState> supervised = std::nullopt;
  bool elsewhere = false;  // Not one of those that this mesh's supervisor runs (`up --only`).

  bool Healthy() const { return answer.ok() && answer->ready(); }
  bool RefusesUs() const { return absl::IsUnauthenticated(answer.status()); }
  std::string Health() const;
  std::string KeyFigure() const;
  double UptimeSeconds() const;
};

std::string Report::Health() const {
  if (answer.ok()) return answer->ready() ? "ready" : "not ready";
  if (supervised.has_value() && supervised->state != "running") return supervised->state;
  if (RefusesUs()) return "refuses us";
  return elsewhere ? "not here" : "down";
}

std::string Report::KeyFigure() const {
  if (answer.ok()) return answer->key_figure();
  if (supervised.has_value() && !supervised->last_exit.empty()) {
    return absl::StrFormat("ended with %s; see %s", supervised->last_exit, supervised->log);
  }
  if (absl::IsUnavailable(answer.status())) return "does not answer";
  return std::string(answer.status().message());
}

double Report::UptimeSeconds() const {
  if (!answer.ok()) return 0;
  return std::max(0.0,
                  absl::ToDoubleSeconds(absl::Now() - absl::FromUnixSeconds(answer->start_time().seconds())));
}

absl::StatusOr<v1::GetStatusResponse> Ask(const mesh::Peer& peer) {
  const auto stub = v1::MeshService::NewStub(peer.channel());
  return peer.Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), kTimeout);
}

// All at once, so that dead ones cost one timeout together.
std::vector<Report> AskAll(const Mesh& mesh, const absl::StatusOr<MeshState>& state) {
  std::vector<std::future<Report>> asked;
  for (const std::string_view daemon : kDaemons) {
    asked.push_back(std::async(std::launch::async, [&mesh, name = std::string(daemon)] {
      const mesh::Peer peer = mesh.Peer(name);
      return Report{.name = name, .address = peer.address(), .answer = Ask(peer)};
    }));
  }
  std::vector<Report> reports;
  for (auto& one : asked) {
    reports.push_back(one.get());
    if (!state.ok()) continue;
    if (const DaemonState* daemon = state->Find(reports.back().name); daemon != nullptr) {
      reports.back().supervised = *daemon;
    } else {
      reports.back().elsewhere = true;
    }
  }
  return reports;
}

// One that `up --only` left out may be anywhere, or nowhere.
bool AllHealthy(const std::vector<Report>& reports) {
  return std::all_of(reports.begin(), reports.end(),
                     [](const Report& report) { return report.Healthy() || report.elsewhere; });
}

int ExitCodeOf(const Mesh& mesh, const std::vector<Report>& reports) {
  const bool refused =
      std::any_of(reports.begin(), reports.end(), [](const Report& r) { return r.RefusesUs(); });
  const bool silent =
      std::none_of(reports.begin(), reports.end(), [](const Report& r) { return r.answer.ok(); });
  if (refused || (silent && !mesh.folder.has_value())) return kExitNoMesh;
  return AllHealthy(reports) ? kExitOk : kExitUnhealthy;
}

Json ToJson(const Report& report) {
  Json json = {{"name", report.name},
               {"address", report.address},
               {"health", report.Health()},
               {"healthy", report.Healthy()},
               {"key_figure", report.KeyFigure()}};
  if (report.answer.ok()) {
    json["version"] = report.answer->version();
    json["uptime_seconds"] = report.UptimeSeconds();
    json["pid"] = report.answer->pid();
    json["admin_address"] = report.answer->admin_address();
  } else {
    json["error"] = std::string(report.answer.status().message());
  }
  if (report.supervised.has_value()) {
    json["state"] = report.supervised->state;
    json["restarts"] = report.supervised->restarts;
    json["last_exit"] = report.supervised->last_exit;
    json["log"] = report.supervised->log;
  }
  return json;
}

Json ToJson(const Mesh& mesh, const absl::StatusOr<MeshState>& state, const std::vector<Report>& reports) {
  Json daemons = Json::array();
  for (const Report& report : reports) daemons.push_back(ToJson(report));
  return {{"data", mesh.folder.has_value() ? Json(mesh.folder->path()) : Json()},
          // "starting", "up" or "stopping"; null for a mesh elsewhere.
          {"state", state.ok() ? Json(state->state) : Json()},
          {"url", mesh.config.mesh().gateway_url()},
          {"healthy", AllHealthy(reports)},
          {"daemons", daemons}};
}

std::string ToText(const Mesh& mesh, const std::vector<Report>& reports) {
  Table table({"DAEMON", "ADDRESS", "HEALTH", "VERSION", ">UPTIME", "DOES"});
  std::string last_words;
  for (const Report& report : reports) {
    table.Add({report.name, report.address, report.Health(),
               report.answer.ok() ? report.answer->version() : "-",
               report.answer.ok() ? FormatDuration(report.UptimeSeconds()) : "-", report.KeyFigure()});
    if (!report.supervised.has_value() || report.supervised->state != "given up") continue;
    last_words += absl::StrFormat("%s died too often and is not started again; its log ends:\n%s\n",
                                  report.name, LastLines(report.supervised->log, kLogLines));
  }
  std::string text = table.ToString() + last_words;
  if (mesh.folder.has_value()) text += absl::StrFormat("Data in %s; ", mesh.folder->path());
  return text + absl::StrFormat("HTTP at %s\n", mesh.config.mesh().gateway_url());
}

// A look at the mesh: what to print, and the exit code.
struct Look {
  std::string text;
  Json json;
  int exit_code;
};

Look LookAt(const Mesh& mesh) {
  const auto state =
      mesh.folder.has_value() ? mesh.folder->ReadState() : absl::StatusOr<MeshState>(absl::NotFoundError(""));
  const std::vector<Report> reports = AskAll(mesh, state);
  return {ToText(mesh, reports), ToJson(mesh, state, reports), ExitCodeOf(mesh, reports)};
}

// Until the mesh is gone, Ctrl-C, or nobody reads.
absl::StatusOr<int> Watch(const StatusFlags& flags, Mesh mesh) {
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  while (std::cout.good()) {
    const Look look = LookAt(mesh);
    if (flags.mesh.json) {
      PrintJsonLine(look.json);
    } else {
      // Up to the left corner, and away with what stood below: no flicker.
      std::cout << (terminal ? "\033[H\033[J" : "") << look.text << (terminal ? "" : "\n") << std::flush;
    }
    absl::SleepFor(absl::Seconds(flags.interval_seconds));
    if (!mesh.folder.has_value()) continue;
    // The same folder: ports and token are another's when it was started anew.
    BDH_ASSIGN_OR_RETURN(mesh, FindMesh({.data = mesh.folder->path(), .config = "", .json = false}));
  }
  return kExitOk;
}

absl::StatusOr<int> RunStatus(const StatusFlags& flags) {
  BDH_ASSIGN_OR_RETURN(Mesh mesh, FindMesh(flags.mesh));
  if (flags.watch) return Watch(flags, std::move(mesh));
  const Look look = LookAt(mesh);
  if (flags.mesh.json) {
    PrintJson(look.json);
  } else {
    std::cout << look.text << std::flush;
  }
  return look.exit_code;
}

}  // namespace

void AddStatusCommand(CLI::App& app, Invocation& invocation) {
  AddCommand<StatusFlags>(
      app, invocation, "status", "Show the daemons: where they are, how they are, what they do",
      [](CLI::App& command, StatusFlags& flags) {
        AddMeshFlags(command, flags.mesh);
        command.add_flag("--watch,-w", flags.watch, "Look again and again; with --json one line each time");
        command.add_option("--interval", flags.interval_seconds, "Between two looks")
            ->type_name("SECONDS")
            ->capture_default_str()
            ->check(CLI::Range(0.1, 3600.0));
        command.footer(
            "Exit code 0: all ready. 4: some are not. 3: no mesh is up, or it does not answer, or it refuses "
            "our "
            "token.");
      },
      RunStatus);
}

}  // namespace bdh::bdhctl
