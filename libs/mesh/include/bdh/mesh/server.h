// How every daemon listens: gRPC with health, reflection and MeshService, and an HTTP admin port.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/mesh/gate.h"
#include "bdh/telemetry/metrics.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace bdh::mesh {

class AdminServer;
class MeshServiceImpl;

// A listening daemon, the same in production and in tests. Starts not ready: call SetReady(true) when the
// daemon can do its work.
class Server {
 public:
  struct Options {
    std::string daemon = "";  // "bdh-inference"
    ListenOptions listen = {};
    std::vector<grpc::Service*> services = {};  // Outlive the server.
    // Their full names ("bdh.v1.InferenceService"), for grpc.health.v1.
    std::vector<std::string> service_names = {};
    const Gate* gate = nullptr;                    // Outlives the server.
    telemetry::Metrics* metrics = nullptr;         // Outlives the server.
    std::function<std::string()> key_figure = {};  // One phrase for `bdhctl status`; any thread.
  };

  // UnavailableError: cannot listen there. InvalidArgumentError: not an address, or one that others reach
  // while neither a token nor a certificate is demanded of them.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Options options);

  ~Server();  // Shutdown(0).

  // What /readyz and grpc.health.v1 answer.
  void SetReady(bool ready);

  // Not ready, no new calls; calls in flight may finish within `drain`, then are cancelled. Returns when none
  // is left. May be called again.
  void Shutdown(absl::Duration drain);

  // Where it listens, with the real port.
  const std::string& address() const { return address_; }
  const std::string& admin_address() const { return admin_address_; }

 private:
  Server();

  // Declared in the order they are built; destroyed in reverse.
  std::string address_, admin_address_;
  std::vector<std::string> service_names_;
  std::unique_ptr<MeshServiceImpl> mesh_service_;
  std::unique_ptr<grpc::Server> grpc_server_;
  std::unique_ptr<AdminServer> admin_;
};

}  // namespace bdh::mesh
