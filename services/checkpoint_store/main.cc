#include "bdh/base/status_macros.h"
#include "services/checkpoint_store/server.h"

namespace {

absl::StatusOr<std::unique_ptr<bdh::mesh::Daemon>> Start(const bdh::v1::Config& config,
                                                         const std::string& token) {
  namespace checkpoint_store = bdh::checkpoint_store;
  BDH_ASSIGN_OR_RETURN(auto server,
                       checkpoint_store::Server::Start(checkpoint_store::OptionsFromConfig(config, token)));
  return server;
}

}  // namespace

int main(int argc, char** argv) {
  return bdh::mesh::RunDaemon(argc, argv,
                              {.name = "bdh-checkpoint-store",
                               .summary = "Keeps every checkpoint, whole or not at all.",
                               .start = Start,
                               .leaves_last = true});
}
