#include "services/checkpoint_store/server.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include <utility>

#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "services/checkpoint_store/admin_service.h"
#include "services/checkpoint_store/coordination_service.h"
#include "services/checkpoint_store/housekeeper.h"
#include "services/checkpoint_store/service.h"
#include "services/checkpoint_store/snapshot_service.h"
#include "services/checkpoint_store/store_metrics.h"
#include "services/checkpoint_store/waits.h"

namespace bdh::checkpoint_store {
namespace {

constexpr char kName[] = "bdh-checkpoint-store";
constexpr absl::Duration kChores = absl::Seconds(15);

store::Store::Compression CompressionOf(std::string_view name) {
  if (name == "zstd") return store::Store::Compression::kZstd;
  if (name == "delta") return store::Store::Compression::kDelta;
  return store::Store::Compression::kNone;  // The configuration allows no other name.
}

}  // namespace

// What happens by itself: what has expired goes, gauges of what nobody counts as it changes.
std::function<void()> Server::Chores(Server& server) {
  telemetry::Metrics& metrics = server.metrics_;
  return
      [&coordination = *server.coordination_, &snapshots = *server.snapshots_,
       &groups = metrics.Gauge("bdh_coordination_groups", "Groups of workers, with those without workers."),
       &workers = metrics.Gauge("bdh_coordination_workers", "Workers with a living lease."),
       &generations = metrics.Gauge("bdh_coordination_generations", "Generations formed since the start."),
       &values = metrics.Gauge("bdh_coordination_value_bytes", "Bytes in all namespaces."),
       &records = metrics.Gauge("bdh_coordination_run_records", "Run records."),
       &kept = metrics.Gauge("bdh_store_snapshots", "Session snapshots."),
       &bytes = metrics.Gauge("bdh_store_snapshot_bytes", "Their bytes, as if each stood alone."),
       &expired = metrics.Counter("bdh_store_snapshots_expired_total", "Session snapshots collected.")] {
        const auto collected = snapshots.CollectExpired();
        if (collected.ok()) {
          expired.Increment(static_cast<double>(*collected));
        } else {
          BDH_LOG(WARNING) << "expired snapshots stay error=" << collected.status().message();
        }
        const store::Coordination::Totals all = coordination.totals();
        groups.Set(static_cast<double>(all.groups));
        workers.Set(static_cast<double>(all.workers));
        generations.Set(static_cast<double>(all.generations));
        values.Set(static_cast<double>(all.value_bytes));
        records.Set(static_cast<double>(all.run_records));
        if (const auto totals = snapshots.totals(); totals.ok()) {
          kept.Set(static_cast<double>(totals->snapshots));
          bytes.Set(static_cast<double>(totals->bytes));
        }
      };
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Options options) {
  auto server = std::unique_ptr<Server>(new Server());
  BDH_ASSIGN_OR_RETURN(server->store_,
                       store::Store::Open({.folder = options.data_dir,
                                           .chunk_bytes = options.chunk_bytes,
                                           .max_uploads = options.max_uploads,
                                           .max_checkpoint_bytes = options.max_checkpoint_bytes,
                                           .min_free_bytes = options.min_free_bytes,
                                           .compression = options.compression,
                                           .pack_bytes = options.pack_bytes,
                                           .scrub_bytes_per_second = options.scrub_bytes_per_second,
                                           .scrub_interval = options.scrub_interval}));
  server->store_metrics_ = std::make_unique<StoreMetrics>(*server->store_, server->metrics_);
  server->gate_ = std::make_unique<mesh::Gate>(kName, options.listen, server->metrics_);
  BDH_ASSIGN_OR_RETURN(server->coordination_,
                       store::Coordination::Open({.folder = options.data_dir + "/coordination"}));
  server->waits_ = std::make_unique<Waits>(options.listen.max_calls);
  store::Coordination& coordination = *server->coordination_;
  server->service_ =
      std::make_unique<CheckpointStore>(*server->store_, coordination, *server->gate_, server->metrics_);
  server->groups_ = std::make_unique<CoordinationService>(coordination, *server->waits_, *server->gate_);
  server->values_ = std::make_unique<KeyValueService>(coordination, *server->waits_, *server->gate_);
  server->records_ = std::make_unique<RunRecordService>(coordination, *server->gate_);
  server->admin_ =
      std::make_unique<AdminService>(AdminService::Parts{.store = *server->store_,
                                                         .coordination = coordination,
                                                         .gate = *server->gate_,
                                                         .credentials = options.listen.credentials});
  server->snapshots_ = std::make_unique<store::SnapshotStore>(
      *server->store_, store::SnapshotStore::Options{.max_snapshot_bytes = options.max_snapshot_bytes,
                                                     .quota_bytes = options.snapshot_quota_bytes});
  server->snapshot_service_ =
      std::make_unique<SnapshotService>(*server->snapshots_, *server->gate_, server->metrics_);
  const CheckpointStore& service = *server->service_;
  BDH_ASSIGN_OR_RETURN(
      server->server_,
      mesh::Server::Start(
          {.daemon = kName,
           .listen = options.listen,
           .services = {server->service_.get(), server->groups_.get(), server->values_.get(),
                        server->records_.get(), server->admin_.get(), server->snapshot_service_.get()},
           .service_names =
               {v1::CheckpointStoreService::service_full_name(), v1::CoordinationService::service_full_name(),
                v1::KeyValueService::service_full_name(), v1::RunRecordService::service_full_name(),
                v1::CheckpointAdminService::service_full_name(), v1::SnapshotService::service_full_name()},
           .gate = server->gate_.get(),
           .metrics = &server->metrics_,
           .key_figure = [&service] { return service.KeyFigure(); }}));
  server->housekeeper_ = std::make_unique<Housekeeper>(kChores, Chores(*server));
  server->server_->SetReady(true);
  BDH_LOG(INFO) << "checkpoint store ready address=" << server->address() << " data_dir=" << options.data_dir
                << " checkpoints=" << server->store_->totals().checkpoints;
  return server;
}

Server::~Server() {
  if (server_ != nullptr) Drain(absl::ZeroDuration());
}

void Server::Drain(absl::Duration timeout) {
  housekeeper_.reset();
  waits_->Stop();
  server_->Shutdown(timeout);
  if (const absl::Status flushed = store_->Flush(); !flushed.ok()) {
    BDH_LOG(WARNING) << "the log stays to be read at the next start error=" << flushed.message();
  }
}

Server::Options OptionsFromConfig(const v1::Config& config, const mesh::Credentials& credentials) {
  const v1::CheckpointStoreConfig& mine = config.checkpoint_store();
  return {.listen = mesh::ListenOptionsFromConfig(config.mesh(), mine, credentials),
          .data_dir = mine.data_dir(),
          .chunk_bytes = mine.chunk_bytes(),
          .max_uploads = mine.max_uploads(),
          .max_checkpoint_bytes = mine.max_checkpoint_bytes(),
          .max_snapshot_bytes = mine.max_snapshot_bytes(),
          .snapshot_quota_bytes = mine.snapshot_quota_bytes(),
          .min_free_bytes = mine.min_free_bytes(),
          .compression = CompressionOf(mine.compression()),
          .pack_bytes = mine.pack_bytes(),
          .scrub_bytes_per_second = mine.scrub_bytes_per_second(),
          .scrub_interval = absl::Hours(24) * mine.scrub_days()};
}

}  // namespace bdh::checkpoint_store
