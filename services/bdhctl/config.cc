// bdhctl config: what holds and why, whether a file would, what differs, and the schema for editors.
#include "bdh/config/config.h"

#include <iostream>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/config/reference.h"
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
  bool origin = false;
};

struct CheckFlags {
  std::string file;
  std::vector<std::string> sets;
  bool environment = false;
  bool json = false;
};

struct DiffFlags {
  std::string left, right;
  bool json = false;
};

struct SchemaFlags {
  bool json = false;  // It never is anything else.
};

absl::StatusOr<config::LoadOptions> WhatToShow(const ShowFlags& flags) {
  config::LoadOptions options;
  if (flags.defaults) return options;
  options.sets = flags.sets;
  if (!flags.mesh.config.empty()) {
    options.file = flags.mesh.config;
    options.environment = config::Environment();
  } else {
    BDH_ASSIGN_OR_RETURN(const MeshFolder folder, FindRunningFolder(flags.mesh.data));
    options.file = folder.ConfigFile();
  }
  return options;
}

absl::StatusOr<int> RunShow(const ShowFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const config::LoadOptions options, WhatToShow(flags));
  const auto loaded = config::LoadWithOrigins(options);
  if (!loaded.ok()) return absl::InvalidArgumentError(loaded.status().message());
  if (!flags.mesh.json) {
    std::cout << (flags.origin ? config::ToYaml(*loaded) : config::ToYaml(loaded->config));
  } else if (flags.origin) {
    PrintJson({{"config", ToJson(loaded->config)}, {"origins", loaded->origins}});
  } else {
    PrintJson(ToJson(loaded->config));
  }
  return kExitOk;
}

absl::StatusOr<int> RunCheck(const CheckFlags& flags) {
  const std::vector<std::string> problems = config::Problems(
      {.file = flags.file,
       .sets = flags.sets,
       .environment = flags.environment ? config::Environment() : std::map<std::string, std::string>{}});
  if (flags.json) {
    PrintJson({{"file", flags.file}, {"ok", problems.empty()}, {"problems", problems}});
  } else if (problems.empty()) {
    std::cout << flags.file << " is fine." << std::endl;
  }
  if (problems.empty()) return kExitOk;
  if (!flags.json) {
    for (const std::string& problem : problems) std::cerr << problem << "\n";
    std::cerr << absl::StrFormat("bdhctl: %d problem%s in %s", problems.size(),
                                 problems.size() == 1 ? "" : "s", flags.file)
              << std::endl;
  }
  return kExitUsage;
}

// Of two files the effective configurations; `right` may be empty: the defaults are on the left then.
absl::StatusOr<int> RunDiff(const DiffFlags& flags) {
  const bool two = !flags.right.empty();
  BDH_ASSIGN_OR_RETURN(const v1::Config left,
                       LoadConfig({.file = two ? flags.left : "", .sets = {}, .environment = {}}));
  BDH_ASSIGN_OR_RETURN(const v1::Config right,
                       LoadConfig({.file = two ? flags.right : flags.left, .sets = {}, .environment = {}}));
  const std::vector<config::Difference> differences = config::Diff(left, right);
  const std::string left_name = two ? flags.left : "defaults";
  const std::string right_name = two ? flags.right : flags.left;
  if (flags.json) {
    auto rows = nlohmann::ordered_json::array();
    for (const auto& [path, before, after] : differences) {
      rows.push_back({{"key", path}, {"left", before}, {"right", after}});
    }
    PrintJson({{"left", left_name}, {"right", right_name}, {"differences", rows}});
    return kExitOk;
  }
  if (differences.empty()) {
    std::cout << left_name << " and " << right_name << " say the same." << std::endl;
    return kExitOk;
  }
  Table table({"KEY", left_name, right_name});
  const auto shown = [](const std::string& value) { return value.empty() ? "-" : value; };
  for (const auto& [path, before, after] : differences) table.Add({path, shown(before), shown(after)});
  std::cout << table.ToString() << std::flush;
  return kExitOk;
}

absl::StatusOr<int> RunSchema(const SchemaFlags&) {
  std::cout << config::JsonSchema() << std::flush;
  return kExitOk;
}

void AddShow(CLI::App& group, Invocation& invocation) {
  AddCommand<ShowFlags>(
      group, invocation, "show", "Print the effective configuration of the mesh, or of a file",
      [](CLI::App& command, ShowFlags& flags) {
        command.add_flag("--defaults", flags.defaults, "Print the defaults");
        command.add_flag("--origin", flags.origin,
                         "Say where each value came from: default, file:line, variable or --set");
        AddMeshFlags(command, flags.mesh);
        command.get_option("--config")->description("Print what this file makes of the defaults");
        AddSetFlag(command, flags.sets);
        command.footer(
            "Secrets are printed as ***.\n\nExample:\n  bdhctl config show --config configs/large.yaml");
      },
      RunShow);
}

void AddCheck(CLI::App& group, Invocation& invocation) {
  AddCommand<CheckFlags>(
      group, invocation, "check", "Say all that is wrong with a file, with line and column",
      [](CLI::App& command, CheckFlags& flags) {
        command.add_option("file", flags.file, "YAML or JSON file")->required()->type_name("FILE");
        AddSetFlag(command, flags.sets);
        command.add_flag("--environment", flags.environment,
                         "With the BDH_* variables of this shell, as a daemon would");
        AddJsonFlag(command, flags.json);
        command.footer("Exit code 2 when the file is not right.");
      },
      RunCheck);
}

void AddDiff(CLI::App& group, Invocation& invocation) {
  AddCommand<DiffFlags>(
      group, invocation, "diff", "Print the keys whose values two files make different",
      [](CLI::App& command, DiffFlags& flags) {
        command.add_option("left", flags.left, "YAML or JSON file")->required()->type_name("FILE");
        command
            .add_option("right", flags.right, "Another; without it, the first is compared with the defaults")
            ->type_name("FILE");
        AddJsonFlag(command, flags.json);
        command.footer("Compared is what holds in the end: defaults, extended files and units included.");
      },
      RunDiff);
}

}  // namespace

void AddConfigCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("config", "Configuration: what holds, and whether a file is right");
  group->require_subcommand(1);
  AddShow(*group, invocation);
  AddCheck(*group, invocation);
  AddDiff(*group, invocation);
  AddCommand<SchemaFlags>(
      *group, invocation, "schema", "Print the JSON Schema of the configuration, for editors",
      [](CLI::App& command, SchemaFlags&) { command.footer("The same as configs/bdh.schema.json."); },
      RunSchema);
}

}  // namespace bdh::bdhctl
