// A running bdh-trainer-worker, the same in production and in tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/mesh/daemon.h"
#include "bdh/mesh/gate.h"
#include "bdh/mesh/listen_options.h"
#include "bdh/mesh/peer.h"
#include "bdh/mesh/server.h"
#include "bdh/telemetry/metrics.h"
#include "bdh/v1/config.pb.h"
#include "services/trainer_worker/kept_states.h"

namespace bdh::trainer_worker {

class RunBook;
class Runner;
class Trainer;

class Server : public mesh::Daemon {
 public:
  struct Options {
    mesh::ListenOptions listen = {};
    std::string data_dir = "";          // Made if it is not there.
    std::string data_loader = "";       // gRPC targets.
    std::string checkpoint_store = "";  //
    int threads = 0;                    // Of the math library; 0: one a core.
    int64_t max_model_bytes = int64_t{64} << 30;
    absl::Duration call_timeout = absl::Seconds(10);
    // How long the other daemons may be away before a run fails.
    absl::Duration patience = absl::Minutes(2);
  };

  // Goes on with the run that a worker before left unfinished in data_dir. UnavailableError: cannot listen.
  // FailedPreconditionError: another worker has data_dir.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Options options);
  ~Server() override;

  const std::string& address() const override { return server_->address(); }
  const std::string& admin_address() const override { return server_->admin_address(); }

  // Saves what is training; the next start in the same data_dir goes on with it.
  void Drain(absl::Duration timeout) override;

 private:
  explicit Server(const Options& options);

  // Declared in the order they are built; destroyed in reverse.
  telemetry::Metrics metrics_;
  const mesh::Gate gate_;
  const mesh::Peer data_loader_;
  const mesh::Peer checkpoint_store_;
  std::unique_ptr<RunBook> book_;
  const KeptStates kept_;
  std::unique_ptr<Runner> runner_;
  std::unique_ptr<Trainer> service_;
  std::unique_ptr<mesh::Server> server_;
};

Server::Options OptionsFromConfig(const v1::Config& config, const mesh::Credentials& credentials);

}  // namespace bdh::trainer_worker
