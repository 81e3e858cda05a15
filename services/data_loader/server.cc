#include "services/data_loader/server.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/cores.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "services/data_loader/dataset_service.h"
#include "services/data_loader/import.h"
#include "services/data_loader/service.h"
#include "services/data_loader/tokenizer_service.h"

namespace bdh::data_loader {
namespace {

constexpr char kName[] = "bdh-data-loader";
// How long a drain waits for readers that do not read: a trainer has all it needs for a while.
constexpr absl::Duration kSlowReader = absl::Milliseconds(500);

constexpr int64_t kBatchMessageBytes = int64_t{4} << 20;
constexpr int64_t kMessageHeadroom = 4096;  // For the fields around the tokens.

SourceLimits LimitsOf(const Server::Options& options) {
  SourceLimits limits = {.hub = options.hub,
                         .max_document_bytes = options.max_document_bytes,
                         .spool_folder = absl::StrFormat("%s/spool", options.data_dir)};
  std::error_code ignored;
  if (limits.hub.cache_dir.empty()) {
    limits.hub.cache_dir = std::filesystem::absolute(options.data_dir, ignored).string() + "/hub";
  }
  return limits;
}

}  // namespace

absl::Status Server::OpenStores(const Options& options, Server& server) {
  // The folder first: it says best what is wrong with it.
  BDH_ASSIGN_OR_RETURN(server.store_,
                       corpus::DatasetStore::Open({.folder = options.data_dir,
                                                   .shard_tokens = options.shard_tokens,
                                                   .max_dataset_bytes = options.max_dataset_bytes,
                                                   .threads = ThreadCount(options.threads),
                                                   .find_tokenizer = [&server](std::string_view name) {
                                                     return server.library_->Find(name);
                                                   }}));
  BDH_RETURN_IF_ERROR(MakeDirectories(LimitsOf(options).spool_folder));
  BDH_ASSIGN_OR_RETURN(server.library_,
                       tokenizer::Library::Open(absl::StrFormat("%s/tokenizers", options.data_dir)));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Options options) {
  // Beside the batch streams, so that a full house still answers what is asked of it.
  options.listen.max_calls += options.max_streams;
  auto server = std::unique_ptr<Server>(new Server());
  BDH_RETURN_IF_ERROR(OpenStores(options, *server));
  server->gate_ = std::make_unique<mesh::Gate>(kName, options.listen, server->metrics_);
  const SourceLimits limits = LimitsOf(options);
  const int64_t batch_bytes =
      std::min(kBatchMessageBytes, options.listen.max_message_bytes - kMessageHeadroom);
  server->service_ = std::make_unique<DataLoader>(*server->store_, *server->gate_, server->metrics_, limits,
                                                  options.max_streams, batch_bytes);
  server->lookup_ = std::make_unique<DatasetLookup>(*server->store_, *server->gate_, batch_bytes);
  server->tokenizers_ =
      std::make_unique<Tokenizers>(*server->library_, *server->store_, *server->gate_, limits);
  const DataLoader& service = *server->service_;
  BDH_ASSIGN_OR_RETURN(server->server_,
                       mesh::Server::Start({.daemon = kName,
                                            .listen = options.listen,
                                            .services = {server->service_.get(), server->lookup_.get(),
                                                         server->tokenizers_.get()},
                                            .service_names = {v1::DataLoaderService::service_full_name(),
                                                              v1::DatasetService::service_full_name(),
                                                              v1::TokenizerService::service_full_name()},
                                            .gate = server->gate_.get(),
                                            .metrics = &server->metrics_,
                                            .key_figure = [&service] { return service.KeyFigure(); }}));
  server->store_->StartStreaming(
      [limits](const std::string& source, corpus::DatasetBuilder& builder, std::stop_token stop) {
        return FeedStreaming(limits, source, builder, std::move(stop));
      });
  server->server_->SetReady(true);
  BDH_LOG(INFO) << "data loader ready address=" << server->address() << " data_dir=" << options.data_dir
                << " datasets=" << server->store_->List().size();
  return server;
}

Server::~Server() {
  if (server_ != nullptr) Drain(absl::ZeroDuration());
}

void Server::Drain(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  server_->SetReady(false);
  service_->StopStreams(std::min(timeout, kSlowReader));
  server_->Shutdown(std::max(deadline - absl::Now(), absl::ZeroDuration()));
}

Server::Options OptionsFromConfig(const v1::Config& config, const mesh::Credentials& credentials) {
  const v1::DataLoaderConfig& mine = config.data_loader();
  return {.listen = mesh::ListenOptionsFromConfig(config.mesh(), mine, credentials),
          .data_dir = mine.data_dir(),
          .max_streams = mine.max_streams(),
          .max_dataset_bytes = mine.max_dataset_bytes(),
          .shard_tokens = mine.shard_tokens(),
          .threads = mine.threads(),
          .max_document_bytes = mine.max_document_bytes(),
          // What is left open is as the variables of Hugging Face's own tools have it.
          .hub = hub::WithEnvironment({.endpoint = mine.hub_endpoint(),
                                       .cache_dir = mine.hub_cache_dir(),
                                       .token = mine.hub_token(),
                                       .offline = mine.hub_offline()})};
}

}  // namespace bdh::data_loader
