#include <unistd.h>

#include <cstdlib>

#include "bdh/base/status_macros.h"
#include "services/trainer_worker/server.h"

namespace {

// LibTorch's threads (libgomp) spin while they wait for each other, which makes training seven times slower
// as soon as anything else wants a processor. Sleeping costs next to nothing. The runtime reads the variable
// when it is loaded, before main: so the process begins once more with it set.
void SleepWhenWaiting(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("OMP_WAIT_POLICY", "passive", 1);
  execv("/proc/self/exe", argv);  // Returns only if it fails; then it is slower, not wrong.
}

absl::StatusOr<std::unique_ptr<bdh::mesh::Daemon>> Start(const bdh::v1::Config& config,
                                                         const std::string& token) {
  BDH_ASSIGN_OR_RETURN(
      auto server, bdh::trainer_worker::Server::Start(bdh::trainer_worker::OptionsFromConfig(config, token)));
  return server;
}

}  // namespace

int main(int argc, char** argv) {
  SleepWhenWaiting(argv);
  return bdh::mesh::RunDaemon(
      argc, argv,
      {.name = "bdh-trainer-worker",
       .summary = "Trains models, one run at a time, and streams every checkpoint to the checkpoint store.",
       .start = Start});
}
