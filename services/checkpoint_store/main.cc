#include "bdh/mesh/daemon.h"
#include "services/checkpoint_store/server.h"

int main(int argc, char** argv) {
  return bdh::mesh::RunDaemon(
      argc, argv,
      {.name = "bdh-checkpoint-store",
       .summary = "Keeps every checkpoint, whole or not at all.",
       .start = bdh::mesh::StartWith<bdh::checkpoint_store::Server>(bdh::checkpoint_store::OptionsFromConfig),
       .leaves_last = true});
}
