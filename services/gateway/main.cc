#include "bdh/mesh/daemon.h"
#include "services/gateway/server.h"

int main(int argc, char** argv) {
  return bdh::mesh::RunDaemon(
      argc, argv,
      {.name = "bdh-gateway",
       .summary =
           "Serves OpenAI's REST API (models, completions, chat) over HTTP from the mesh's bdh-inference.",
       .start = bdh::mesh::StartWith<bdh::gateway::Server>(bdh::gateway::OptionsFromConfig),
       .shortcuts = {{"--insecure", "gateway.insecure=true", "Listen beyond loopback without API keys"}}});
}
