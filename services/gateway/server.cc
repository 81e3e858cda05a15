#include "services/gateway/server.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/mesh/gate.h"
#include "bdh/mesh/server.h"
#include "services/gateway/service.h"

namespace bdh::gateway {
namespace {

constexpr char kDaemon[] = "bdh-gateway";
// After the drain's timeout: for the last words of streams that are ended. As long for what comes in that
// moment.
constexpr absl::Duration kLastWords = absl::Seconds(1);
constexpr int64_t kBodiesAtOnce = 64;
constexpr int64_t kMessageHeadroom = 4096;  // For the tenant and the fields around the prompt.

absl::Status CheckKeys(const std::vector<std::string>& keys) {
  for (size_t i = 0; i < keys.size(); ++i) {
    const bool visible =
        std::all_of(keys[i].begin(), keys[i].end(), [](char c) { return absl::ascii_isgraph(c); });
    if (keys[i].empty() || keys[i].size() > 512 || !visible) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "gateway.api_keys[%d] cannot be sent in a header; want 1 to 512 visible ASCII characters", i));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCors(const std::string& origin) {
  const bool visible =
      std::all_of(origin.begin(), origin.end(), [](char c) { return absl::ascii_isgraph(c); });
  if (visible && origin.size() <= 512) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "gateway.cors_allow_origin must be * or one origin, e.g. https://chat.example.org");
}

// What a body asks for goes to bdh-inference in one message, which is no larger than the JSON it came in,
// but for a name.
absl::Status CheckSizes(int64_t max_body_bytes, int64_t max_message_bytes) {
  const int64_t most = max_message_bytes - kMessageHeadroom;
  if (max_body_bytes <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "gateway.max_body_bytes is %d, but what it holds must fit into one message of the mesh "
      "(mesh.max_message_bytes is %d); want at most %d, or set mesh.max_message_bytes to at least %d",
      max_body_bytes, max_message_bytes, most, max_body_bytes + kMessageHeadroom));
}

HttpServer::Options HttpOptions(const Server::Options& options) {
  HttpServer::Options http;
  http.address = options.http_listen;
  http.loopback_only = options.api_keys.empty() && !options.insecure;
  http.threads = options.threads;
  http.max_connections = options.max_connections;
  http.max_body_bytes = options.max_body_bytes;
  http.max_total_body_bytes = options.max_body_bytes * kBodiesAtOnce;
  http.header_timeout = options.header_timeout;
  http.body_timeout = options.body_timeout;
  http.idle_timeout = options.idle_timeout;
  http.write_timeout = options.write_timeout;
  return http;
}

absl::StatusOr<std::unique_ptr<HttpServer>> StartHttp(const Server::Options& options,
                                                      OpenAiService& service) {
  HttpServer::Options http = HttpOptions(options);
  service.Serve(http);
  auto started = HttpServer::Start(std::move(http));
  if (started.status().code() != absl::StatusCode::kInvalidArgument) return started;
  return absl::InvalidArgumentError(absl::StrFormat(
      "gateway.http_listen: %s and no key would be asked for. Set gateway.api_keys, or listen on "
      "127.0.0.1, or set gateway.insecure=true if something else guards it",
      started.status().message()));
}

}  // namespace

Server::Server() = default;

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Options options) {
  BDH_RETURN_IF_ERROR(CheckKeys(options.api_keys));
  BDH_RETURN_IF_ERROR(CheckCors(options.cors_allow_origin));
  BDH_RETURN_IF_ERROR(CheckSizes(options.max_body_bytes, options.listen.max_message_bytes));
  auto server = std::unique_ptr<Server>(new Server());
  server->gate_ = std::make_unique<mesh::Gate>(kDaemon, options.listen, server->metrics_);
  server->client_ = std::make_unique<InferenceClient>(
      InferenceClient::Options{.address = options.inference,
                               .credentials = options.listen.credentials,
                               .max_message_bytes = options.listen.max_message_bytes,
                               .call_timeout = options.call_timeout,
                               .generate_timeout = options.request_timeout});
  OpenAiService::Options service;
  service.router = {.api_keys = options.api_keys,
                    .any_host = options.insecure,
                    .cors_allow_origin = options.cors_allow_origin};
  service.job.ping = options.ping;
  service.slow_request = options.listen.slow_call;
  server->service_ = std::make_unique<OpenAiService>(std::move(service), *server->client_, server->metrics_);
  BDH_ASSIGN_OR_RETURN(server->http_, StartHttp(options, *server->service_));
  BDH_ASSIGN_OR_RETURN(
      server->mesh_,
      mesh::Server::Start({.daemon = kDaemon,
                           .listen = options.listen,
                           .gate = server->gate_.get(),
                           .metrics = &server->metrics_,
                           .key_figure = [raw = server.get()] { return raw->service_->KeyFigure(); }}));
  server->service_->SetReady(true);
  server->mesh_->SetReady(true);
  BDH_LOG(INFO) << "serving HTTP at " << server->public_address() << " keys=" << options.api_keys.size();
  return server;
}

Server::~Server() {
  Drain(absl::ZeroDuration());
}

const std::string& Server::address() const {
  return mesh_->address();
}
const std::string& Server::admin_address() const {
  return mesh_->admin_address();
}
std::string Server::public_address() const {
  return "http://" + http_->address();
}
int Server::http_port() const {
  return http_->port();
}

// Also of a server whose start failed halfway.
void Server::Drain(absl::Duration timeout) {
  if (service_ != nullptr) service_->SetReady(false);
  if (mesh_ != nullptr) mesh_->SetReady(false);
  if (http_ != nullptr) {
    http_->StopAdmitting();
    const bool idle = http_->AwaitIdle(timeout);
    client_->CancelAll();
    if (!idle) http_->AwaitIdle(std::min(timeout, kLastWords));
    http_->AwaitClosed(std::min(timeout, kLastWords));
    http_->CloseAll();
  }
  // From here on no call of the mesh posts work to the HTTP server, which may go.
  if (client_ != nullptr) client_->StopAndWait();
  if (mesh_ != nullptr) mesh_->Shutdown(absl::ZeroDuration());
}

Server::Options OptionsFromConfig(const v1::Config& config, const mesh::Credentials& credentials) {
  const v1::GatewayConfig& gateway = config.gateway();
  Server::Options options;
  options.http_listen = gateway.http_listen();
  options.listen = mesh::ListenOptionsFromConfig(config.mesh(), gateway, credentials);
  options.inference = config.mesh().inference();
  options.api_keys = {gateway.api_keys().begin(), gateway.api_keys().end()};
  options.insecure = gateway.insecure();
  options.cors_allow_origin = gateway.cors_allow_origin();
  options.max_body_bytes = gateway.max_body_bytes();
  options.max_connections = gateway.max_connections();
  options.threads = gateway.threads();
  options.request_timeout = absl::Seconds(gateway.request_timeout_seconds());
  options.call_timeout = absl::Seconds(config.mesh().call_timeout_seconds());
  options.ping = absl::Seconds(gateway.ping_seconds());
  return options;
}

}  // namespace bdh::gateway
