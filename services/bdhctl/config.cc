// bdhctl config: what holds, and whether a file would.
#include "bdh/config/config.h"

#include <iostream>

#include "bdh/base/status_macros.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/output.h"
#include "services/bdhctl/proto_json.h"

namespace bdh::bdhctl {
namespace {

struct ShowFlags {
  MeshFlags mesh;
  std::vector<std::string> sets;
  bool defaults = false;
};

struct CheckFlags {
  std::string file;
  std::vector<std::string> sets;
  bool json = false;
};

absl::StatusOr<v1::Config> Shown(const ShowFlags& flags) {
  if (flags.defaults) return LoadConfig({.file = "", .sets = {}, .environment = {}});
  config::LoadOptions options{
      .file = flags.mesh.config, .sets = flags.sets, .environment = config::Environment()};
  if (options.file.empty()) {
    BDH_ASSIGN_OR_RETURN(const MeshFolder folder, FindRunningFolder(flags.mesh.data));
    options.file = folder.ConfigFile();
    options.environment.clear();
  }
  return LoadConfig(options);
}

absl::StatusOr<int> RunShow(const ShowFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const v1::Config config, Shown(flags));
  if (flags.mesh.json) {
    PrintJson(ToJson(config));
  } else {
    std::cout << config::ToYaml(config);
  }
  return kExitOk;
}

absl::StatusOr<int> RunCheck(const CheckFlags& flags) {
  const auto config = LoadConfig({.file = flags.file, .sets = flags.sets, .environment = {}});
  if (flags.json) {
    PrintJson({{"file", flags.file}, {"ok", config.ok()}, {"error", std::string(config.status().message())}});
    return config.ok() ? kExitOk : kExitUsage;
  }
  BDH_RETURN_IF_ERROR(config.status());
  std::cout << flags.file << " is fine." << std::endl;
  return kExitOk;
}

}  // namespace

void AddConfigCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("config", "Configuration: what holds, and whether a file is right");
  group->require_subcommand(1);
  AddCommand<ShowFlags>(
      *group, invocation, "show", "Print the effective configuration of the mesh, or of a file",
      [](CLI::App& command, ShowFlags& flags) {
        command.add_flag("--defaults", flags.defaults, "Print the defaults");
        AddMeshFlags(command, flags.mesh);
        command.get_option("--config")->description("Print what this file makes of the defaults");
        AddSetFlag(command, flags.sets);
        command.footer(
            "Secrets are printed as ***.\n\nExample:\n  bdhctl config show --config configs/large.yaml");
      },
      RunShow);
  AddCommand<CheckFlags>(
      *group, invocation, "check", "Say what is wrong with a file, with line and column",
      [](CLI::App& command, CheckFlags& flags) {
        command.add_option("file", flags.file, "YAML or JSON file")->required()->type_name("FILE");
        AddSetFlag(command, flags.sets);
        AddJsonFlag(command, flags.json);
        command.footer("Exit code 2 when the file is not right.");
      },
      RunCheck);
}

}  // namespace bdh::bdhctl
