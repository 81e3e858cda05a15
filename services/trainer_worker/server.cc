#include "services/trainer_worker/server.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "bdh/base/cores.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/training/machine.h"
#include "services/trainer_worker/run_book.h"
#include "services/trainer_worker/runner.h"
#include "services/trainer_worker/service.h"

namespace bdh::trainer_worker {
namespace {

constexpr char kName[] = "bdh-trainer-worker";

void LogMachine(int threads) {
  const training::Blas blas = training::LoadedBlas();
  BDH_LOG(INFO) << "math threads=" << ThreadCount(threads)
                << " blas=" << (blas.library.empty() ? "in LibTorch" : blas.library);
  if (const std::string warning = training::BlasWarning(blas); !warning.empty()) BDH_LOG(WARNING) << warning;
}

}  // namespace

Server::Server(const Options& options)
    : gate_(kName, options.listen, metrics_),
      data_loader_("bdh-data-loader", options.data_loader, options.listen.credentials,
                   options.listen.max_message_bytes),
      checkpoint_store_("bdh-checkpoint-store", options.checkpoint_store, options.listen.credentials,
                        options.listen.max_message_bytes),
      kept_(options.data_dir) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Options options) {
  auto server = std::unique_ptr<Server>(new Server(options));
  BDH_ASSIGN_OR_RETURN(server->book_, RunBook::Open(options.data_dir));
  const Runner::Options runner{
      .threads = options.threads, .call_timeout = options.call_timeout, .patience = options.patience};
  server->runner_ = std::make_unique<Runner>(runner, *server->book_, server->kept_, server->data_loader_,
                                             server->checkpoint_store_, server->metrics_);
  const Trainer::Options service{.max_model_bytes = options.max_model_bytes,
                                 .call_timeout = options.call_timeout};
  server->service_ = std::make_unique<Trainer>(service, server->gate_, *server->book_, *server->runner_,
                                               server->data_loader_, server->checkpoint_store_);
  const Trainer& trainer = *server->service_;
  BDH_ASSIGN_OR_RETURN(server->server_,
                       mesh::Server::Start({.daemon = kName,
                                            .listen = options.listen,
                                            .services = {server->service_.get()},
                                            .service_names = {v1::TrainerService::service_full_name()},
                                            .gate = &server->gate_,
                                            .metrics = &server->metrics_,
                                            .key_figure = [&trainer] { return trainer.KeyFigure(); }}));
  LogMachine(options.threads);
  server->service_->ResumeAfterRestart();
  server->runner_->BeginDelivering();
  server->server_->SetReady(true);
  return server;
}

Server::~Server() {
  if (server_ != nullptr) Drain(absl::ZeroDuration());
}

void Server::Drain(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  server_->SetReady(false);
  runner_->Drain(timeout);
  book_->Close();
  server_->Shutdown(std::max(deadline - absl::Now(), absl::ZeroDuration()));
}

Server::Options OptionsFromConfig(const v1::Config& config, const mesh::Credentials& credentials) {
  const v1::TrainerWorkerConfig& mine = config.trainer_worker();
  return {.listen = mesh::ListenOptionsFromConfig(config.mesh(), mine, credentials),
          .data_dir = mine.data_dir(),
          .data_loader = config.mesh().data_loader(),
          .checkpoint_store = config.mesh().checkpoint_store(),
          .threads = mine.threads(),
          .max_model_bytes = mine.max_model_bytes(),
          .call_timeout = absl::Seconds(config.mesh().call_timeout_seconds()),
          .patience = absl::Seconds(mine.patience_seconds())};
}

}  // namespace bdh::trainer_worker
