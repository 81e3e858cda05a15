#include "bdh/mesh/server.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <unistd.h>

#include <atomic>
#include <utility>

#include "absl/strings/str_format.h"
#include "admin_server.h"
#include "bdh/base/address.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/version.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "keepalive.h"

namespace bdh::mesh {

class MeshServiceImpl final : public v1::MeshService::Service {
 public:
  MeshServiceImpl(const Server& server, std::string daemon, const Gate& gate,
                  std::function<std::string()> key_figure)
      : server_(server), daemon_(std::move(daemon)), gate_(gate), key_figure_(std::move(key_figure)) {}

  void SetReady(bool ready) { ready_ = ready; }

  // From here on the addresses do not change.
  void SetStarted() { started_ = true; }

  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest*,
                         v1::GetStatusResponse* response) override {
    return gate_.Run(*context, "GetStatus", [&] {
      if (!started_) return absl::UnavailableError(daemon_ + " is starting");
      response->set_daemon(daemon_);
      response->set_version(Version());
      response->set_address(server_.address());
      response->set_admin_address(server_.admin_address());
      response->mutable_start_time()->set_seconds(absl::ToUnixSeconds(start_));
      response->set_pid(getpid());
      response->set_ready(ready_);
      if (key_figure_) response->set_key_figure(key_figure_());
      return absl::OkStatus();
    });
  }

  grpc::Status SetLogLevels(grpc::ServerContext* context, const v1::SetLogLevelsRequest* request,
                            v1::SetLogLevelsResponse* response) override {
    return gate_.Run(*context, "SetLogLevels", [&]() -> absl::Status {
      if (!request->levels().empty()) {
        BDH_RETURN_IF_ERROR(bdh::SetLogLevels(request->levels()));
        BDH_LOG(INFO) << "log levels set levels=" << LogLevels();
      }
      response->set_levels(LogLevels());
      return absl::OkStatus();
    });
  }

 private:
  const Server& server_;
  const std::string daemon_;
  const Gate& gate_;
  const std::function<std::string()> key_figure_;
  const absl::Time start_ = absl::Now();
  std::atomic<bool> ready_{false};
  std::atomic<bool> started_{false};
};

namespace {

constexpr int kSpareThreads = 32;

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

void Limit(const Server::Options& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(options.listen.max_message_bytes);
  builder.SetMaxSendMessageSize(options.listen.max_message_bytes);
  grpc::ResourceQuota quota(options.daemon);
  // More than the gate lets in, so that it is the gate that refuses, with a sentence.
  quota.SetMaxThreads(options.listen.max_calls + kSpareThreads);
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, Milliseconds(options.listen.max_idle));
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             Milliseconds(options.listen.handshake_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kPingIntervalMinMs);
  // A port belongs to one daemon: without this Linux would let two share it and split their calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

// Whoever can reach a daemon may command it, so beyond this machine proof is not optional.
absl::Status CheckReach(const Server::Options& options, const HostPort& listen) {
  if (options.listen.credentials.demands_proof() || listen.IsLoopback()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s would listen on %s without a mesh token, for everybody on the network to command; set "
      "mesh.token_file or mesh.tls, or listen on 127.0.0.1",
      options.daemon, options.listen.address));
}

}  // namespace

Server::Server() = default;

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Options options) {
  BDH_CHECK(options.gate != nullptr && options.metrics != nullptr);
  BDH_ASSIGN_OR_RETURN(HostPort listen, ParseHostPort(options.listen.address));
  BDH_RETURN_IF_ERROR(CheckReach(options, listen));
  BDH_ASSIGN_OR_RETURN(const auto credentials, options.listen.credentials.ForServer());
  auto server = std::unique_ptr<Server>(new Server());
  server->service_names_ = options.service_names;
  server->service_names_.emplace_back(v1::MeshService::service_full_name());
  server->mesh_service_ =
      std::make_unique<MeshServiceImpl>(*server, options.daemon, *options.gate, options.key_figure);

  // Once a process, before its first server.
  static const bool plugins = [] {
    // Held to the end of the process: when the last user lets go, gRPC waits for its backup poller, which
    // takes up to 10 s after a stream whose reader was slow, and a daemon that has drained should leave at
    // once.
    grpc_init();
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  (void)plugins;

  grpc::ServerBuilder builder;
  Limit(options, builder);
  int port = 0;
  builder.AddListeningPort(options.listen.address, credentials, &port);
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  builder.RegisterService(server->mesh_service_.get());
  server->grpc_server_ = builder.BuildAndStart();
  if (server->grpc_server_ == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrFormat("%s cannot listen on %s: the port is taken or the address is not this machine's",
                        options.daemon, options.listen.address));
  }
  listen.port = port;
  server->address_ = listen.ToString();
  if (!listen.IsLoopback() && !options.listen.credentials.has_tls()) {
    BDH_LOG(WARNING)
        << "calls from other machines, and the token in them, are not encrypted; set mesh.tls address="
        << server->address_;
  }
  if (!options.listen.admin_address.empty()) {
    auto admin = AdminServer::Start(options.listen.admin_address, *options.metrics);
    if (!admin.ok()) return admin.status();
    server->admin_ = *std::move(admin);
    server->admin_address_ = server->admin_->address();
  }
  server->mesh_service_->SetStarted();
  server->SetReady(false);
  return server;
}

Server::~Server() {
  Shutdown(absl::ZeroDuration());
}

void Server::SetReady(bool ready) {
  mesh_service_->SetReady(ready);
  grpc::HealthCheckServiceInterface* health = grpc_server_->GetHealthCheckService();
  for (const std::string& name : service_names_) health->SetServingStatus(name, ready);
  health->SetServingStatus(ready);  // "", the daemon as a whole.
  if (admin_ != nullptr) admin_->SetReady(ready);
}

void Server::Shutdown(absl::Duration drain) {
  if (grpc_server_ == nullptr) return;
  SetReady(false);
  grpc_server_->Shutdown(absl::ToChronoTime(absl::Now() + drain));
}

}  // namespace bdh::mesh
