#include "bdh/mesh/daemon.h"
#include "services/gateway/server.h"

int main(int argc, char** argv) {
  return bdh::mesh::RunDaemon(
      argc, argv,
      {.name = "bdh-gateway",
       .summary =
           "Serves OpenAI's REST API (models, completions, chat) over HTTP from the mesh's bdh-inference.",
       .start = [](const bdh::v1::Config& config,
                   const std::string& token) -> absl::StatusOr<std::unique_ptr<bdh::mesh::Daemon>> {
         return bdh::gateway::Server::Start(bdh::gateway::OptionsFromConfig(config, token));
       },
       .shortcuts = {{"--insecure", "gateway.insecure=true", "Listen beyond loopback without API keys"}}});
}
