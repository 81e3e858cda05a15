// What a daemon's main() is: flags, configuration, start, signals, drain.
//
//   int main(int argc, char** argv) {
//     return bdh::mesh::RunDaemon(argc, argv, {.name = "bdh-inference", .summary = "Decodes.",
//                                              .start = bdh::mesh::StartWith<Server>(OptionsFromConfig)});
//   }
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/mesh/credentials.h"
#include "bdh/v1/config.pb.h"

namespace bdh::mesh {

// A running daemon. Each service's Server implements it.
class Daemon {
 public:
  virtual ~Daemon() = default;
  virtual const std::string& address() const = 0;        // gRPC.
  virtual const std::string& admin_address() const = 0;  // HTTP: /metrics, /healthz, /readyz.
  // Where users reach it when that is not the gRPC address: the gateway's HTTP.
  virtual std::string public_address() const { return ""; }
  // Stops admitting, finishes or checkpoints what it does within `timeout`, and returns.
  virtual void Drain(absl::Duration timeout) = 0;
};

struct DaemonSpec {
  std::string name;     // "bdh-inference"
  std::string summary;  // First lines of --help.
  std::function<absl::StatusOr<std::unique_ptr<Daemon>>(const v1::Config&, const Credentials&)> start;
  // Others save here while they drain: when the supervisor dies, stay for drain_timeout before draining too,
  // unless SIGTERM says that they are gone.
  bool leaves_last = false;
  // Flags that stand for one --set, e.g. {"--insecure", "gateway.insecure=true", "Listen ..."}.
  struct Shortcut {
    std::string flag, assignment, help;
  };
  std::vector<Shortcut> shortcuts = {};
};

// Parses --config, --set, --ready-file, --print-config, --version and --help; loads the configuration;
// starts; writes the ready file (JSON: pid, address, admin_address, public_address); waits for SIGTERM or
// SIGINT, or for the death of the process that $BDH_PARENT_PID names; drains. A second signal leaves at once,
// also while the daemon starts. SIGHUP opens the log anew ($BDH_LOG_FILE), or is as SIGTERM where there is no
// such variable. Exit codes: 0 drained; 1 could not start; 2 bad flags or configuration; 3 left at once, by a
// second signal; 4 the drain took 3 s longer than drain_timeout and was cut off.
int RunDaemon(int argc, char** argv, const DaemonSpec& spec);

// DaemonSpec::start of a service whose options are read out of the configuration.
template <class Server, class Options>
auto StartWith(Options (*options_from_config)(const v1::Config&, const Credentials&)) {
  return [options_from_config](const v1::Config& config,
                               const Credentials& credentials) -> absl::StatusOr<std::unique_ptr<Daemon>> {
    return Server::Start(options_from_config(config, credentials));
  };
}

}  // namespace bdh::mesh
