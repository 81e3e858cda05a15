// bdhctl logs: what the daemons of a mesh on this machine write.
#include <cstdio>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/status_macros.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/log_printer.h"
#include "services/bdhctl/mesh_plan.h"

namespace bdh::bdhctl {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(100);
constexpr std::string_view kSupervisor = "supervisor";

struct LogsFlags {
  std::string data;
  std::vector<std::string> daemons;
  size_t lines = 50;
  bool follow = false, json = false;
};

absl::StatusOr<std::vector<std::string_view>> Wanted(const std::vector<std::string>& texts) {
  std::vector<std::string_view> wanted;
  for (const std::string& text : texts) {
    if (text == kSupervisor) {
      wanted.push_back(kSupervisor);
    } else {
      BDH_ASSIGN_OR_RETURN(wanted.emplace_back(), FindDaemon(text));
    }
  }
  if (!wanted.empty()) return wanted;
  wanted.assign(kDaemons.begin(), kDaemons.end());
  wanted.push_back(kSupervisor);
  return wanted;
}

absl::StatusOr<int> RunLogs(const LogsFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const auto wanted, Wanted(flags.daemons));
  const MeshFolder folder = FindFolder(flags.data);
  if (!folder.HasLogs()) {
    return absl::NotFoundError(absl::StrFormat(
        "no mesh has logged in %s; name its folder with --data, or start one: bdhctl up --detach",
        folder.path()));
  }
  const LogStyle style = flags.json ? LogStyle::kJson : StyleFor(stdout);
  LogPrinter printer(LogSources(folder, wanted), flags.lines, style, stdout);
  while (printer.Print() && flags.follow) absl::SleepFor(kPoll);
  return kExitOk;
}

}  // namespace

void AddLogsCommand(CLI::App& app, Invocation& invocation) {
  AddCommand<LogsFlags>(
      app, invocation, "logs", "Show what the daemons of a mesh on this machine have logged",
      [](CLI::App& command, LogsFlags& flags) {
        command
            .add_option("DAEMON", flags.daemons,
                        "store, loader, trainer, inference, gateway, supervisor (default: all)")
            ->expected(0, -1);
        AddDataFlag(command, flags.data);
        command.add_flag("--follow,-f", flags.follow, "Go on with what they log from now on, until Ctrl-C");
        command.add_option("--lines,-n", flags.lines, "How many of the last lines, of all together")
            ->type_name("N")
            ->capture_default_str()
            ->check(CLI::Range(0, 100000));
        command.add_flag("--json", flags.json, "Print one JSON object a line: daemon, time, line");
        command.footer(
            "The mesh need not be up. Lines stand in the order of their times; several logs have their names "
            "before\nthem, in colours on a terminal (not if NO_COLOR is set).\n\n"
            "Examples:\n"
            "  bdhctl logs -f\n"
            "  bdhctl logs trainer -n 200\n"
            "  bdhctl logs -n 100000 | grep checkpoint");
      },
      RunLogs);
}

}  // namespace bdh::bdhctl
