// bdh-gateway: OpenAI's REST API for HTTP clients, bdh.v1.InferenceService towards the mesh.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/mesh/daemon.h"
#include "bdh/mesh/listen_options.h"
#include "bdh/telemetry/metrics.h"
#include "bdh/v1/config.pb.h"

namespace bdh::mesh {
class Gate;
class Server;
}  // namespace bdh::mesh

namespace bdh::gateway {

class HttpServer;
class InferenceClient;
class OpenAiService;

// A running gateway, the same in production and in tests.
class Server final : public mesh::Daemon {
 public:
  struct Options {
    std::string http_listen = "127.0.0.1:0";
    mesh::ListenOptions listen = {};  // gRPC.
    std::string inference;            // gRPC target of bdh-inference.
    std::vector<std::string> api_keys = {};
    bool insecure = false;  // Without keys, listen on addresses other than loopback.
    std::string cors_allow_origin = "";
    int64_t max_body_bytes = 4 << 20;  // At least 4 KiB less than listen.max_message_bytes.
    int max_connections = 1024;
    int threads = 0;  // 0: one a core.
    absl::Duration request_timeout = absl::Seconds(600);
    absl::Duration call_timeout = absl::Seconds(10);
    absl::Duration ping = absl::Seconds(15);
    absl::Duration header_timeout = absl::Seconds(20);
    absl::Duration body_timeout = absl::Seconds(60);
    absl::Duration idle_timeout = absl::Seconds(90);
    absl::Duration write_timeout = absl::Seconds(120);
  };

  // UnavailableError: cannot listen. InvalidArgumentError: http_listen would be reachable from other machines
  // with no key asked for, a body could be too large for a message of the mesh, or a key or origin is no text
  // for a header; the message says what to do.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Options options);
  ~Server() override;  // Drain(0).

  const std::string& address() const override;
  const std::string& admin_address() const override;
  std::string public_address() const override;  // "http://127.0.0.1:8000"
  int http_port() const;

  // Lets open requests end within `timeout`, then ends what they wait for: streams get an error event.
  void Drain(absl::Duration timeout) override;

 private:
  Server();

  // Declared in the order they are built; destroyed in reverse.
  telemetry::Metrics metrics_;
  std::unique_ptr<mesh::Gate> gate_;
  std::unique_ptr<InferenceClient> client_;
  std::unique_ptr<OpenAiService> service_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<mesh::Server> mesh_;
};

Server::Options OptionsFromConfig(const v1::Config& config, const mesh::Credentials& credentials);

}  // namespace bdh::gateway
