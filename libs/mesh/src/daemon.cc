#include "bdh/mesh/daemon.h"

#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_util.h"
#include "bdh/base/version.h"
#include "bdh/config/config.h"
#include "grpc_log.h"
#include "stop_signals.h"

namespace bdh::mesh {
namespace {

constexpr int kExitFailed = 1, kExitUsage = 2, kExitForced = 3, kExitOverdue = 4;
// After drain_timeout: to end what was cut off, and to close files.
constexpr absl::Duration kLeaveGrace = absl::Seconds(3);

struct Flags {
  config::LoadOptions config;
  std::string ready_file;
  bool print_config = false;
  std::string log_format, log_levels;
};

// As many as the system lets us have: gRPC stops accepting for good when descriptors run out.
void RaiseFileLimit() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

// The supervisor's pid, or 0 when nobody supervises.
pid_t SupervisorPid() {
  const char* text = std::getenv("BDH_PARENT_PID");
  int pid = 0;
  return text != nullptr && absl::SimpleAtoi(text, &pid) && pid > 1 ? pid : 0;
}

absl::Status WriteReadyFile(const std::string& path, const Daemon& daemon) {
  const nlohmann::json ready = {{"pid", getpid()},
                                {"address", daemon.address()},
                                {"admin_address", daemon.admin_address()},
                                {"public_address", daemon.public_address()}};
  return WriteFileAtomically(path, ready.dump() + "\n");
}

// Drains, and ends the process if that does not come to its end: what stays behind then is what a daemon that
// was killed leaves, which every one can start from.
void DrainWithin(Daemon& daemon, absl::Duration timeout, const std::string& reason) {
  BDH_LOG(INFO) << "draining reason=" << reason << " timeout=" << absl::FormatDuration(timeout);
  std::thread([timeout] {
    absl::SleepFor(timeout + kLeaveGrace);
    BDH_LOG(ERROR) << "the drain is overdue, leaving without its end timeout="
                   << absl::FormatDuration(timeout);
    _exit(kExitOverdue);
  }).detach();
  daemon.Drain(timeout);
}

int Fail(const DaemonSpec& spec, const absl::Status& status, int code) {
  std::cerr << spec.name << ": " << status.message() << std::endl;
  return code;
}

int Serve(const DaemonSpec& spec, const v1::Config& config, const std::string& ready_file) {
  // For ever: its thread answers signals until the process ends.
  static StopSignals& signals = *new StopSignals(kExitForced);
  const auto credentials = Credentials::Load(config.mesh(), spec.name);
  if (!credentials.ok()) return Fail(spec, credentials.status(), kExitUsage);
  auto daemon = spec.start(config, *credentials);
  if (!daemon.ok()) {
    return Fail(spec, daemon.status(), absl::IsInvalidArgument(daemon.status()) ? kExitUsage : kExitFailed);
  }
  BDH_LOG(INFO) << "started daemon=" << spec.name << " version=" << Version()
                << " address=" << (*daemon)->address() << " admin=" << (*daemon)->admin_address();
  if (!ready_file.empty()) {
    if (const auto status = WriteReadyFile(ready_file, **daemon); !status.ok())
      return Fail(spec, status, kExitFailed);
  }
  const absl::Duration drain = absl::Seconds(config.mesh().drain_timeout_seconds());
  const pid_t supervisor = SupervisorPid();
  if (supervisor != 0) signals.FollowParent(supervisor, spec.leaves_last ? drain : absl::ZeroDuration());
  DrainWithin(**daemon, drain, signals.Wait());
  daemon->reset();
  BDH_LOG(INFO) << "left daemon=" << spec.name;
  return 0;
}

}  // namespace

int RunDaemon(int argc, char** argv, const DaemonSpec& spec) {
  StopSignals::Install();
  RouteGrpcLog();
  RaiseFileLimit();
  CLI::App app(spec.summary, spec.name);
  Flags flags;
  app.add_option("--config", flags.config.file, "YAML or JSON file; without it the defaults hold")
      ->type_name("FILE");
  app.add_option("--set", flags.config.sets,
                 "Override one key, e.g. --set mesh.token_file=token; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--ready-file", flags.ready_file, "Write pid and addresses there (JSON) once started")
      ->type_name("FILE");
  for (const DaemonSpec::Shortcut& shortcut : spec.shortcuts) {
    app.add_flag_callback(
        shortcut.flag, [&flags, &shortcut] { flags.config.sets.push_back(shortcut.assignment); },
        absl::StrFormat("%s (--set %s)", shortcut.help, shortcut.assignment));
  }
  app.add_option("--log-format", flags.log_format, "text or json (--set mesh.log.format)")
      ->type_name("FORMAT");
  app.add_option("--log-levels", flags.log_levels, "Such as info,gateway=debug (--set mesh.log.levels)")
      ->type_name("LEVELS");
  app.add_flag("--print-config", flags.print_config, "Print the effective configuration and leave");
  app.set_version_flag("--version", absl::StrFormat("%s %s", spec.name, Version()));
  app.footer(
      "Variables BDH_SECTION_KEY override the file, --set overrides both.\n"
      "SIGTERM drains within mesh.drain_timeout_seconds; a second one leaves at once.\n"
      "Exit codes: 0 drained, 1 could not start, 2 bad flags or configuration, 3 left at once, 4 drained too "
      "slowly.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  InitLogging(argv[0]);
  if (!flags.log_format.empty()) flags.config.sets.push_back("mesh.log.format=" + flags.log_format);
  if (!flags.log_levels.empty()) flags.config.sets.push_back("mesh.log.levels=" + flags.log_levels);
  flags.config.environment = config::Environment();
  const auto config = config::Load(flags.config);
  if (!config.ok()) return Fail(spec, config.status(), kExitUsage);
  if (flags.print_config) {
    std::cout << config::ToYaml(*config);
    return 0;
  }
  SetLogFormat(config->mesh().log().format() == "json" ? LogFormat::kJson : LogFormat::kText);
  if (const auto status = SetLogLevels(config->mesh().log().levels()); !status.ok()) {
    return Fail(spec, Annotate(status, "mesh.log.levels"), kExitUsage);
  }
  return Serve(spec, *config, flags.ready_file);
}

}  // namespace bdh::mesh
