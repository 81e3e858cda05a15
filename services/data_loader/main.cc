#include "bdh/mesh/daemon.h"
#include "services/data_loader/server.h"

int main(int argc, char** argv) {
  return bdh::mesh::RunDaemon(
      argc, argv,
      {.name = "bdh-data-loader",
       .summary = "Turns text into token shards and streams batches of them to trainers.",
       .start = bdh::mesh::StartWith<bdh::data_loader::Server>(bdh::data_loader::OptionsFromConfig)});
}
