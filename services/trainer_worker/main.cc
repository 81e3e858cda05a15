#include "bdh/mesh/daemon.h"
#include "bdh/training/machine.h"
#include "services/trainer_worker/server.h"

int main(int argc, char** argv) {
  bdh::training::PrepareProcess(argv);
  return bdh::mesh::RunDaemon(
      argc, argv,
      {.name = "bdh-trainer-worker",
       .summary = "Trains models, one run at a time, and streams every checkpoint to the checkpoint store.",
       .start = bdh::mesh::StartWith<bdh::trainer_worker::Server>(bdh::trainer_worker::OptionsFromConfig)});
}
