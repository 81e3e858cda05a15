#include "bdh/base/status_macros.h"
#include "services/inference/server.h"

namespace {

absl::StatusOr<std::unique_ptr<bdh::mesh::Daemon>> Start(const bdh::v1::Config& config,
                                                         const std::string& token) {
  BDH_ASSIGN_OR_RETURN(auto server,
                       bdh::inference::Server::Start(bdh::inference::OptionsFromConfig(config, token)));
  return server;
}

}  // namespace

int main(int argc, char** argv) {
  return bdh::mesh::RunDaemon(argc, argv,
                              {.name = "bdh-inference",
                               .summary = "Loads models from the checkpoint store and generates with them.",
                               .start = Start});
}
