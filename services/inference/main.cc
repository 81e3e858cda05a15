#include "bdh/mesh/daemon.h"
#include "services/inference/server.h"

int main(int argc, char** argv) {
  return bdh::mesh::RunDaemon(
      argc, argv,
      {.name = "bdh-inference",
       .summary = "Loads models from the checkpoint store and generates with them.",
       .start = bdh::mesh::StartWith<bdh::inference::Server>(bdh::inference::OptionsFromConfig)});
}
