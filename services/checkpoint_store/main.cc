#include <string_view>

#include "bdh/mesh/daemon.h"
#include "services/checkpoint_store/bench.h"
#include "services/checkpoint_store/server.h"

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "bench") return bdh::checkpoint_store::RunBench(argc, argv);
  return bdh::mesh::RunDaemon(
      argc, argv,
      {.name = "bdh-checkpoint-store",
       .summary = "Keeps every checkpoint, whole or not at all.",
       .start = bdh::mesh::StartWith<bdh::checkpoint_store::Server>(bdh::checkpoint_store::OptionsFromConfig),
       .leaves_last = true});
}
