#include "bdh/base/status_macros.h"
#include "bdh/training/machine.h"
#include "services/trainer_worker/server.h"

namespace {

absl::StatusOr<std::unique_ptr<bdh::mesh::Daemon>> Start(const bdh::v1::Config& config,
                                                         const std::string& token) {
  BDH_ASSIGN_OR_RETURN(
      auto server, bdh::trainer_worker::Server::Start(bdh::trainer_worker::OptionsFromConfig(config, token)));
  return server;
}

}  // namespace

int main(int argc, char** argv) {
  bdh::training::PrepareProcess(argv);
  return bdh::mesh::RunDaemon(
      argc, argv,
      {.name = "bdh-trainer-worker",
       .summary = "Trains models, one run at a time, and streams every checkpoint to the checkpoint store.",
       .start = Start});
}
