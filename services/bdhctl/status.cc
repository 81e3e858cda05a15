// bdhctl status: how the daemons are.
#include <future>
#include <iostream>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/mesh_plan.h"
#include "services/bdhctl/output.h"

namespace bdh::bdhctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kTimeout = absl::Seconds(3);

// One daemon: what it says of itself, and what its supervisor says of it.
struct Report {
  std::string name;
  std::string address;
  absl::StatusOr<v1::GetStatusResponse> answer;
  std::optional<DaemonState> supervised;

  bool Healthy() const { return answer.ok() && answer->ready(); }
  std::string Health() const;
  std::string KeyFigure() const;
  double UptimeSeconds() const;
};

std::string Report::Health() const {
  if (answer.ok()) return answer->ready() ? "ready" : "not ready";
  if (supervised.has_value() && supervised->state != "running") return supervised->state;
  return absl::IsUnauthenticated(answer.status()) ? "refuses us" : "down";
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
      return Report{name, peer.address(), Ask(peer), std::nullopt};
    }));
  }
  std::vector<Report> reports;
  for (auto& one : asked) {
    reports.push_back(one.get());
    if (!state.ok()) continue;
    for (const DaemonState& daemon : state->daemons) {
      if (daemon.name == reports.back().name) reports.back().supervised = daemon;
    }
  }
  return reports;
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
    json["restarts"] = report.supervised->restarts;
    json["last_exit"] = report.supervised->last_exit;
    json["log"] = report.supervised->log;
  }
  return json;
}

void PrintAsJson(const Mesh& mesh, const absl::StatusOr<MeshState>& state, const std::vector<Report>& reports,
                 bool healthy) {
  Json daemons = Json::array();
  for (const Report& report : reports) daemons.push_back(ToJson(report));
  PrintJson({{"data", mesh.folder.has_value() ? Json(mesh.folder->path()) : Json()},
             // "starting", "up" or "stopping"; null for a mesh elsewhere.
             {"state", state.ok() ? Json(state->state) : Json()},
             {"url", mesh.config.mesh().gateway_url()},
             {"healthy", healthy},
             {"daemons", daemons}});
}

void PrintAsTable(const Mesh& mesh, const std::vector<Report>& reports) {
  Table table({"DAEMON", "ADDRESS", "HEALTH", "VERSION", ">UPTIME", "DOES"});
  for (const Report& report : reports) {
    table.Add({report.name, report.address, report.Health(),
               report.answer.ok() ? report.answer->version() : "-",
               report.answer.ok() ? FormatDuration(report.UptimeSeconds()) : "-", report.KeyFigure()});
  }
  std::cout << table.ToString();
  if (mesh.folder.has_value()) std::cout << "Data in " << mesh.folder->path() << "; ";
  std::cout << "HTTP at " << mesh.config.mesh().gateway_url() << std::endl;
}

absl::StatusOr<int> RunStatus(const MeshFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags));
  const auto state =
      mesh.folder.has_value() ? mesh.folder->ReadState() : absl::StatusOr<MeshState>(absl::NotFoundError(""));
  const std::vector<Report> reports = AskAll(mesh, state);
  const bool healthy =
      std::all_of(reports.begin(), reports.end(), [](const Report& r) { return r.Healthy(); });
  if (flags.json) {
    PrintAsJson(mesh, state, reports, healthy);
  } else {
    PrintAsTable(mesh, reports);
  }
  return healthy ? kExitOk : kExitUnhealthy;
}

}  // namespace

void AddStatusCommand(CLI::App& app, Invocation& invocation) {
  AddCommand<MeshFlags>(
      app, invocation, "status", "Show the daemons: where they are, how they are, what they do",
      [](CLI::App& command, MeshFlags& flags) {
        AddMeshFlags(command, flags);
        command.footer("Exit code 0: all ready. 4: some are not. 3: no mesh is up.");
      },
      RunStatus);
}

}  // namespace bdh::bdhctl
