// bdhctl loglevel: which log lines the daemons write, while they run.
#include <algorithm>
#include <iostream>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/mesh_plan.h"
#include "services/bdhctl/output.h"

namespace bdh::bdhctl {
namespace {

struct Flags {
  MeshFlags mesh;
  std::string levels;
  std::vector<std::string> daemons;
};

absl::StatusOr<std::string> Set(const mesh::Peer& peer, const std::string& levels, absl::Duration timeout) {
  const auto stub = v1::MeshService::NewStub(peer.channel());
  v1::SetLogLevelsRequest request;
  request.set_levels(levels);
  BDH_ASSIGN_OR_RETURN(const auto response,
                       peer.Call(*stub, &v1::MeshService::Stub::SetLogLevels, request, timeout));
  return response.levels();
}

absl::Status CheckNames(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (std::find(kDaemons.begin(), kDaemons.end(), name) != kDaemons.end()) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("--daemon %s: there is no such daemon; one is bdh-inference", name));
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Run(const Flags& flags) {
  BDH_RETURN_IF_ERROR(CheckNames(flags.daemons));
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags.mesh));
  Table table({"DAEMON", "LEVELS"});
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  absl::Status first_failure;
  for (const std::string_view each : kDaemons) {
    const std::string name(each);
    if (!flags.daemons.empty() &&
        std::find(flags.daemons.begin(), flags.daemons.end(), name) == flags.daemons.end())
      continue;
    const auto levels = Set(mesh.Peer(name), flags.levels, mesh.call_timeout());
    if (absl::IsInvalidArgument(levels.status())) return levels.status();
    if (first_failure.ok()) first_failure = levels.status();
    table.Add({name, levels.ok() ? *levels : std::string(levels.status().message())});
    json[name] = levels.ok() ? nlohmann::ordered_json(*levels) : nlohmann::ordered_json();
  }
  if (flags.mesh.json) {
    PrintJson(json);
  } else {
    std::cout << table.ToString();
  }
  return first_failure.ok() ? kExitOk : ExitCode(first_failure);
}

}  // namespace

void AddLogLevelCommand(CLI::App& app, Invocation& invocation) {
  AddCommand<Flags>(
      app, invocation, "loglevel", "Show or change which log lines the daemons write, until they restart",
      [](CLI::App& command, Flags& flags) {
        command.add_option("levels", flags.levels, "debug, info, warning or error; or info,MODULE=debug")
            ->type_name("LEVELS");
        command.add_option("--daemon", flags.daemons, "Only this one; may be repeated")->type_name("NAME");
        AddMeshFlags(command, flags.mesh);
        command.footer(
            "A module is a source file without its ending (gate: every call), or a folder (gateway).\n\n"
            "Examples:\n"
            "  bdhctl loglevel\n"
            "  bdhctl loglevel info,gate=debug --daemon bdh-inference\n"
            "  bdhctl loglevel info");
      },
      Run);
}

}  // namespace bdh::bdhctl
