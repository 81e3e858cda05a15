#include "bdh/base/status_macros.h"
#include "services/data_loader/server.h"

namespace {

absl::StatusOr<std::unique_ptr<bdh::mesh::Daemon>> Start(const bdh::v1::Config& config,
                                                         const std::string& token) {
  BDH_ASSIGN_OR_RETURN(auto server,
                       bdh::data_loader::Server::Start(bdh::data_loader::OptionsFromConfig(config, token)));
  return server;
}

}  // namespace

int main(int argc, char** argv) {
  return bdh::mesh::RunDaemon(
      argc, argv,
      {.name = "bdh-data-loader",
       .summary = "Turns text into token shards and streams batches of them to trainers.",
       .start = Start});
}
