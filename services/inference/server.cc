#include "services/inference/server.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "bdh/base/cores.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "services/inference/decode_metrics.h"
#include "services/inference/model_loader.h"
#include "services/inference/model_table.h"
#include "services/inference/service.h"

namespace bdh::inference {
namespace {

constexpr char kName[] = "bdh-inference";
// For handlers to see that their generation was cancelled.
constexpr absl::Duration kLeaveTimeout = absl::Seconds(2);

engine::BdhOptions EngineOptions(const Server::Options& options) {
  return {.dtype = options.weight_dtype,
          .phases = options.phases,
          .grid = options.grid,
          .threads = ThreadCount(options.threads),
          .keep_bytes = std::min(engine::kDefaultKeepBytes, options.max_memory_bytes / 16)};
}

}  // namespace

Server::Server(const Options& options)
    : gate_(kName, options.listen, metrics_),
      memory_(options.max_memory_bytes),
      store_("bdh-checkpoint-store", options.store_address, options.listen.credentials,
             options.listen.max_message_bytes),
      decode_metrics_(std::make_unique<DecodeMetrics>(metrics_)),
      loader_(std::make_unique<ModelLoader>(store_, memory_, options.max_context_tokens,
                                            EngineOptions(options))) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Options options) {
  // Beside admitted and waiting generations, so that a full house still answers what is asked.
  options.listen.max_calls += options.max_active + options.max_queue;
  auto server = std::unique_ptr<Server>(new Server(options));
  DecodeMetrics& decode_metrics = *server->decode_metrics_;
  BDH_ASSIGN_OR_RETURN(
      server->models_,
      ModelTable::Open({.data_dir = options.data_dir,
                        .models = options.models,
                        .on_count = [&decode_metrics](int count) { decode_metrics.SetModels(count); }},
                       *server->loader_));
  // One thread takes the turns; what it computes in each is shared out among all of them. So one generation
  // alone has the whole machine, and many read the weights together.
  server->scheduler_ = engine::Scheduler::Create({.threads = 1,
                                                  .max_active = options.max_active,
                                                  .max_queue = options.max_queue,
                                                  .memory = &server->memory_,
                                                  .observer = &decode_metrics});
  server->service_ =
      std::make_unique<Inference>(*server->models_, *server->scheduler_, decode_metrics, server->gate_);
  const Inference& service = *server->service_;
  BDH_ASSIGN_OR_RETURN(server->server_,
                       mesh::Server::Start({.daemon = kName,
                                            .listen = options.listen,
                                            .services = {server->service_.get()},
                                            .service_names = {v1::InferenceService::service_full_name()},
                                            .gate = &server->gate_,
                                            .metrics = &server->metrics_,
                                            .key_figure = [&service] { return service.KeyFigure(); }}));
  server->server_->SetReady(true);
  BDH_LOG(INFO) << "inference ready address=" << server->address() << " data_dir=" << options.data_dir
                << " store=" << options.store_address;
  return server;
}

Server::~Server() {
  if (server_ != nullptr) Drain(absl::ZeroDuration());
}

void Server::Drain(absl::Duration timeout) {
  server_->SetReady(false);
  models_->Stop();
  service_->StopAdmitting();
  scheduler_->AwaitIdle(timeout);
  scheduler_->CancelAll();
  server_->Shutdown(kLeaveTimeout);
}

Server::Options OptionsFromConfig(const v1::Config& config, const mesh::Credentials& credentials) {
  const v1::InferenceConfig& mine = config.inference();
  return {
      .listen = mesh::ListenOptionsFromConfig(config.mesh(), mine, credentials),
      .data_dir = mine.data_dir(),
      .store_address = config.mesh().checkpoint_store(),
      .models = {mine.models().begin(), mine.models().end()},
      .threads = mine.threads(),
      .weight_dtype = mine.weight_dtype() == "bf16" ? kernels::DType::kBf16 : kernels::DType::kF32,
      .phases = mine.phases() == "precise" ? kernels::PhaseMode::kPrecise : kernels::PhaseMode::kReference,
      .grid = mine.grid(),
      .max_active = mine.max_active(),
      .max_queue = mine.max_queue(),
      .max_context_tokens = mine.max_context_tokens(),
      .max_memory_bytes = mine.max_memory_bytes()};
}

}  // namespace bdh::inference
