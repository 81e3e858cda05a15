// bdhctl: the one tool a person types.
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "absl/strings/str_format.h"
#include "bdh/base/version.h"
#include "bdh/telemetry/trace.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/output.h"

namespace bdh::bdhctl {
namespace {

constexpr char kFooter[] =
    "A model in five lines:\n"
    "  bdhctl up --detach\n"
    "  bdhctl data add mine book.txt\n"
    "  bdhctl train start --dataset mine --config configs/quickstart.yaml --name first --tag first --watch\n"
    "  bdhctl models load first\n"
    "  bdhctl generate --model first \"Once upon a time\"\n\n"
    "Which mesh: --data DIR, else $BDH_DATA, else ./bdh-data if one is up there, else the last one you "
    "started.\n"
    "A mesh elsewhere: --config FILE with a mesh section (addresses, token_file).\n\n"
    "Exit codes: 0 ok; 1 failed; 2 bad flags, names or configuration; 3 no mesh is up or it cannot be "
    "reached;\n"
    "  4 something is not healthy; 5 the folder is in use by another mesh.\n"
    "`bdhctl COMMAND --help` shows flags and examples.";

struct VersionFlags {
  bool json = false;
};

absl::StatusOr<int> RunVersion(const VersionFlags& flags) {
  if (flags.json) {
    PrintJson({{"name", "bdhctl"}, {"version", Version()}});
  } else {
    std::cout << "bdhctl " << Version() << std::endl;
  }
  return kExitOk;
}

void AddAll(CLI::App& app, Invocation& invocation) {
  AddUpDownCommands(app, invocation);
  AddStatusCommand(app, invocation);
  AddLogsCommand(app, invocation);
  AddDataCommands(app, invocation);
  AddTokenizerCommands(app, invocation);
  AddTrainCommands(app, invocation);
  AddCheckpointCommands(app, invocation);
  AddModelsCommands(app, invocation);
  AddGenerateCommand(app, invocation);
  AddConfigCommands(app, invocation);
  AddModelCommands(app, invocation);
  AddBenchCommand(app, invocation);
  AddCertsCommands(app, invocation);
  AddTokenCommands(app, invocation);
  AddLogLevelCommand(app, invocation);
  AddCommand<VersionFlags>(
      app, invocation, "version", "Print the version",
      [](CLI::App& command, VersionFlags& flags) { AddJsonFlag(command, flags.json); }, RunVersion);
}

// `bdhctl up` stays as the supervisor, and everybody on the machine may read a process's arguments.
void HideKeys(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    char* value = std::strstr(argv[i], "api_keys=");
    if (value == nullptr) continue;
    for (value += std::strlen("api_keys="); *value != '\0'; ++value) *value = '*';
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Trains and serves Dragon Hatchling models on a mesh of five daemons.", "bdhctl");
  app.set_version_flag("--version", absl::StrFormat("bdhctl %s", Version()));
  app.require_subcommand(1);
  app.footer(kFooter);
  Invocation invocation;
  AddAll(app, invocation);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  HideKeys(argc, argv);
  // One request, whatever calls it takes: its id is in the daemons' logs. $TRACEPARENT makes it part of
  // another.
  const char* traceparent = std::getenv("TRACEPARENT");
  const telemetry::ScopedTrace trace(telemetry::Trace::Continue(traceparent != nullptr ? traceparent : ""));
  const absl::StatusOr<int> outcome = invocation.action();
  if (outcome.ok()) return *outcome;
  std::cerr << "bdhctl: " << outcome.status().message() << std::endl;
  return ExitCode(outcome.status());
}

}  // namespace
}  // namespace bdh::bdhctl

int main(int argc, char** argv) {
  return bdh::bdhctl::Main(argc, argv);
}
