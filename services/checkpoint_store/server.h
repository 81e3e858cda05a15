// A running bdh-checkpoint-store, the same in production and in tests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/mesh/daemon.h"
#include "bdh/mesh/gate.h"
#include "bdh/mesh/listen_options.h"
#include "bdh/mesh/server.h"
#include "bdh/store/coordination.h"
#include "bdh/store/snapshots.h"
#include "bdh/store/store.h"
#include "bdh/telemetry/metrics.h"
#include "bdh/v1/config.pb.h"

namespace bdh::checkpoint_store {

class AdminService;
class CheckpointStore;
class StoreMetrics;
class CoordinationService;
class Housekeeper;
class KeyValueService;
class RunRecordService;
class SnapshotService;
class Waits;

class Server : public mesh::Daemon {
 public:
  struct Options {
    mesh::ListenOptions listen = {};
    std::string data_dir = "";      // Made if it is not there.
    int64_t chunk_bytes = 1 << 20;  // Size tensors are cut into.
    int max_uploads = 16;           // At once; one more is refused.
    int64_t max_checkpoint_bytes = int64_t{1} << 40;
    int64_t max_snapshot_bytes = int64_t{8} << 30;
    int64_t snapshot_quota_bytes = int64_t{64} << 30;  // Of one tenant.
    int64_t min_free_bytes = 64 << 20;                 // Uploads are refused while the disk has less.
    store::Store::Compression compression = store::Store::Compression::kNone;
    int64_t pack_bytes = 256 << 20;
    int64_t scrub_bytes_per_second = 0;  // 0: never.
    absl::Duration scrub_interval = absl::Hours(24 * 7);
  };

  // UnavailableError: cannot listen. FailedPreconditionError: another daemon has data_dir. DataLossError:
  // what was committed there is not all there any more.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Options options);
  ~Server() override;

  const std::string& address() const override { return server_->address(); }
  const std::string& admin_address() const override { return server_->admin_address(); }
  const telemetry::Metrics& metrics() const { return metrics_; }

  // Uploads and downloads may finish within `timeout`; those cut off leave nothing behind. Calls that wait
  // end at once.
  void Drain(absl::Duration timeout) override;

 private:
  Server() = default;
  static std::function<void()> Chores(Server& server);

  // Declared in the order they are built; destroyed in reverse.
  telemetry::Metrics metrics_;
  std::unique_ptr<mesh::Gate> gate_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<store::Coordination> coordination_;
  std::unique_ptr<Waits> waits_;
  std::unique_ptr<StoreMetrics> store_metrics_;
  std::unique_ptr<CheckpointStore> service_;
  std::unique_ptr<CoordinationService> groups_;
  std::unique_ptr<KeyValueService> values_;
  std::unique_ptr<RunRecordService> records_;
  std::unique_ptr<AdminService> admin_;
  std::unique_ptr<store::SnapshotStore> snapshots_;
  std::unique_ptr<SnapshotService> snapshot_service_;
  std::unique_ptr<mesh::Server> server_;
  std::unique_ptr<Housekeeper> housekeeper_;
};

Server::Options OptionsFromConfig(const v1::Config& config, const mesh::Credentials& credentials);

}  // namespace bdh::checkpoint_store
