#include "services/checkpoint_store/server.h"

#include <utility>

#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "services/checkpoint_store/coordination_service.h"
#include "services/checkpoint_store/service.h"
#include "services/checkpoint_store/waits.h"

namespace bdh::checkpoint_store {
namespace {

constexpr char kName[] = "bdh-checkpoint-store";

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Options options) {
  auto server = std::unique_ptr<Server>(new Server());
  BDH_ASSIGN_OR_RETURN(server->store_,
                       store::Store::Open({.folder = options.data_dir,
                                           .chunk_bytes = options.chunk_bytes,
                                           .max_uploads = options.max_uploads,
                                           .max_checkpoint_bytes = options.max_checkpoint_bytes,
                                           .min_free_bytes = options.min_free_bytes}));
  server->gate_ = std::make_unique<mesh::Gate>(kName, options.listen, server->metrics_);
  BDH_ASSIGN_OR_RETURN(server->coordination_,
                       store::Coordination::Open({.folder = options.data_dir + "/coordination"}));
  server->waits_ = std::make_unique<Waits>(options.listen.max_calls);
  server->service_ = std::make_unique<CheckpointStore>(*server->store_, *server->gate_, server->metrics_);
  store::Coordination& coordination = *server->coordination_;
  server->groups_ = std::make_unique<CoordinationService>(coordination, *server->waits_, *server->gate_);
  server->values_ = std::make_unique<KeyValueService>(coordination, *server->waits_, *server->gate_);
  server->records_ = std::make_unique<RunRecordService>(coordination, *server->gate_);
  const CheckpointStore& service = *server->service_;
  BDH_ASSIGN_OR_RETURN(server->server_,
                       mesh::Server::Start({.daemon = kName,
                                            .listen = options.listen,
                                            .services = {server->service_.get(), server->groups_.get(),
                                                         server->values_.get(), server->records_.get()},
                                            .service_names = {v1::CheckpointStoreService::service_full_name(),
                                                              v1::CoordinationService::service_full_name(),
                                                              v1::KeyValueService::service_full_name(),
                                                              v1::RunRecordService::service_full_name()},
                                            .gate = server->gate_.get(),
                                            .metrics = &server->metrics_,
                                            .key_figure = [&service] { return service.KeyFigure(); }}));
  server->server_->SetReady(true);
  BDH_LOG(INFO) << "checkpoint store ready address=" << server->address() << " data_dir=" << options.data_dir
                << " checkpoints=" << server->store_->totals().checkpoints;
  return server;
}

Server::~Server() {
  if (server_ != nullptr) Drain(absl::ZeroDuration());
}

void Server::Drain(absl::Duration timeout) {
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
          .max_checkpoint_bytes = mine.max_checkpoint_bytes()};
}

}  // namespace bdh::checkpoint_store
