// A running bdh-inference, the same in production and in tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/engine/bdh_model.h"
#include "bdh/engine/memory_budget.h"
#include "bdh/engine/scheduler.h"
#include "bdh/mesh/daemon.h"
#include "bdh/mesh/gate.h"
#include "bdh/mesh/listen_options.h"
#include "bdh/mesh/peer.h"
#include "bdh/mesh/server.h"
#include "bdh/telemetry/metrics.h"
#include "bdh/v1/config.pb.h"

namespace bdh::inference {

class DecodeMetrics;
class Inference;
class ModelLoader;
class ModelTable;

class Server : public mesh::Daemon {
 public:
  struct Options {
    mesh::ListenOptions listen = {};
    std::string data_dir = "";             // Made if it is not there.
    std::string store_address = "";        // gRPC target of bdh-checkpoint-store.
    std::vector<std::string> models = {};  // References to load at start.
    int threads = 0;                       // That decode. 0: one a core.
    kernels::DType weight_dtype = kernels::DType::kF32;
    kernels::PhaseMode phases = kernels::PhaseMode::kReference;
    int grid = 32;  // Tokens between two advances of a dense state.
    int max_active = 8;
    int max_queue = 64;
    int max_context_tokens = 32768;
    int64_t max_memory_bytes = int64_t{8} << 30;
  };

  // Is ready at once; models load in the background. UnavailableError: cannot listen.
  // FailedPreconditionError: another daemon has data_dir.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Options options);
  ~Server() override;

  const std::string& address() const override { return server_->address(); }
  const std::string& admin_address() const override { return server_->admin_address(); }

  // Refuses new generations; those in flight may finish within `timeout`, then they are cancelled.
  void Drain(absl::Duration timeout) override;

 private:
  explicit Server(const Options& options);

  // Declared in the order they are built; destroyed in reverse.
  telemetry::Metrics metrics_;
  mesh::Gate gate_;
  engine::MemoryBudget memory_;
  mesh::Peer store_;
  std::unique_ptr<DecodeMetrics> decode_metrics_;
  std::unique_ptr<ModelLoader> loader_;
  std::unique_ptr<ModelTable> models_;
  std::unique_ptr<engine::Scheduler> scheduler_;
  std::unique_ptr<Inference> service_;
  std::unique_ptr<mesh::Server> server_;
};

Server::Options OptionsFromConfig(const v1::Config& config, const mesh::Credentials& credentials);

}  // namespace bdh::inference
