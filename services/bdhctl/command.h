// What all commands share: how they are hung into the command line, how they end.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::bdhctl {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;   // Bad flags, names or configuration.
inline constexpr int kExitNoMesh = 3;  // None is running, or it cannot be reached, or it refuses our token.
inline constexpr int kExitUnhealthy = 4;  // `status`: not all daemons are well.
inline constexpr int kExitFolderInUse = 5;

// The exit code that fits a failure.
int ExitCode(const absl::Status& status);

// What the command line asked for: set by the command that was named, run by main.
struct Invocation {
  std::function<absl::StatusOr<int>()> action;  // Returns the exit code; an error is printed and mapped.
};

// Where the mesh is, and how to print. On every command that speaks to a mesh.
struct MeshFlags {
  std::string data;
  std::string config;
  bool json = false;
};

void AddDataFlag(CLI::App& command, std::string& data);
void AddJsonFlag(CLI::App& command, bool& json);
void AddSetFlag(CLI::App& command, std::vector<std::string>& sets);
void AddMeshFlags(CLI::App& command, MeshFlags& flags);

// Adds a command whose `Flags` live as long as the command line. `define` adds options that fill them; `run`
// acts.
template <class Flags>
CLI::App* AddCommand(CLI::App& parent, Invocation& invocation, const std::string& name,
                     const std::string& summary, const std::function<void(CLI::App&, Flags&)>& define,
                     absl::StatusOr<int> (*run)(const Flags&)) {
  CLI::App* command = parent.add_subcommand(name, summary);
  const auto flags = std::make_shared<Flags>();
  define(*command, *flags);
  command->callback([&invocation, flags, run] { invocation.action = [flags, run] { return run(*flags); }; });
  return command;
}

// One function a group, each in its own file.
void AddUpDownCommands(CLI::App& app, Invocation& invocation);
void AddLogsCommand(CLI::App& app, Invocation& invocation);
void AddStatusCommand(CLI::App& app, Invocation& invocation);
void AddDataCommands(CLI::App& app, Invocation& invocation);
void AddTokenizerCommands(CLI::App& app, Invocation& invocation);
void AddTrainCommands(CLI::App& app, Invocation& invocation);
void AddCheckpointCommands(CLI::App& app, Invocation& invocation);
void AddModelsCommands(CLI::App& app, Invocation& invocation);
void AddGenerateCommand(CLI::App& app, Invocation& invocation);
void AddConfigCommands(CLI::App& app, Invocation& invocation);
void AddCertsCommands(CLI::App& app, Invocation& invocation);
void AddTokenCommands(CLI::App& app, Invocation& invocation);
void AddLogLevelCommand(CLI::App& app, Invocation& invocation);
void AddModelCommands(CLI::App& app, Invocation& invocation);
void AddBenchCommand(CLI::App& app, Invocation& invocation);
void AddBenchData(CLI::App& bench, Invocation& invocation);

}  // namespace bdh::bdhctl
