// A running bdh-data-loader, the same in production and in tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/corpus/dataset_store.h"
#include "bdh/hub/hub.h"
#include "bdh/mesh/daemon.h"
#include "bdh/mesh/gate.h"
#include "bdh/mesh/listen_options.h"
#include "bdh/mesh/server.h"
#include "bdh/telemetry/metrics.h"
#include "bdh/tokenizer/library.h"
#include "bdh/v1/config.pb.h"

namespace bdh::data_loader {

class DataLoader;
class DatasetLookup;
class Tokenizers;

class Server : public mesh::Daemon {
 public:
  struct Options {
    mesh::ListenOptions listen = {};
    std::string data_dir = "";  // Made if it is not there.
    int max_streams = 64;
    int64_t max_dataset_bytes = int64_t{1} << 40;
    int64_t shard_tokens = int64_t{64} << 20;
    int threads = 0;  // That tokenize, for each data set that is being made. 0: one a core.
    int64_t max_document_bytes = int64_t{1} << 30;
    hub::Options hub = {};  // cache_dir empty: hub/ in data_dir.
  };

  // UnavailableError: cannot listen. Other daemons may have the same data_dir.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Options options);
  ~Server() override;

  const std::string& address() const override { return server_->address(); }
  const std::string& admin_address() const override { return server_->admin_address(); }

  // Batch streams end with UNAVAILABLE after the batch they are at; imports may finish within `timeout`.
  void Drain(absl::Duration timeout) override;

 private:
  Server() = default;
  static absl::Status OpenStores(const Options& options, Server& server);

  // Declared in the order they are built; destroyed in reverse.
  telemetry::Metrics metrics_;
  std::unique_ptr<mesh::Gate> gate_;
  std::unique_ptr<tokenizer::Library> library_;
  std::unique_ptr<corpus::DatasetStore> store_;
  std::unique_ptr<DataLoader> service_;
  std::unique_ptr<DatasetLookup> lookup_;
  std::unique_ptr<Tokenizers> tokenizers_;
  std::unique_ptr<mesh::Server> server_;
};

Server::Options OptionsFromConfig(const v1::Config& config, const mesh::Credentials& credentials);

}  // namespace bdh::data_loader
