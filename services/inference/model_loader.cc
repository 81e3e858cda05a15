#include "services/inference/model_loader.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/mutex.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "google/protobuf/util/time_util.h"
#include "services/inference/checkpoint_pin.h"
#include "services/inference/file_loader.h"
#include "services/inference/tokenizer_in_transit.h"
#include "services/inference/weights_in_transit.h"

namespace bdh::inference {
namespace {

// Of the whole stream: a hang shall not hold the caller for ever, a large model on a slow network shall load.
constexpr absl::Duration kTransferTimeout = absl::Hours(1);
// How soon a load ends whose client has left.
constexpr absl::Duration kPoll = absl::Milliseconds(50);

// Ends a call to the store once nobody wants its outcome, also while the store says nothing.
class Watcher {
 public:
  Watcher(const std::function<bool()>& cancelled, grpc::ClientContext& call)
      : thread_([this, &cancelled, &call] { Watch(cancelled, call); }) {}
  ~Watcher() {
    MutexLock lock(mutex_);
    done_ = true;
    changed_.NotifyAll();
  }
  bool has_ended_it() const { return has_ended_it_; }

 private:
  void Watch(const std::function<bool()>& cancelled, grpc::ClientContext& call) {
    MutexLock lock(mutex_);
    while (!done_) {
      if (cancelled()) {
        has_ended_it_ = true;
        return call.TryCancel();
      }
      changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(kPoll));
    }
  }

  Mutex mutex_;
  CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> has_ended_it_{false};
  std::jthread thread_;  // The last member: it uses the others.
};

// One download: what has come so far, and the memory set aside for it.
class Download {
 public:
  Download(engine::MemoryBudget& memory, const engine::BdhOptions& options)
      : memory_(memory), options_(options) {}

  absl::Status Take(const v1::GetCheckpointResponse& message) {
    if (message.has_checkpoint()) return Begin(message.checkpoint());
    if (!weights_.has_value()) return absl::DataLossError("the store sent tensors before the checkpoint");
    if (TokenizerInTransit::IsPart(message.chunk().tensor())) return tokenizer_.Add(message.chunk());
    return weights_->Add(message.chunk());
  }

  // The model from all that came, and its memory.
  absl::StatusOr<std::shared_ptr<LoadedModel>> Build() {
    if (!weights_.has_value()) return absl::DataLossError("the store sent no checkpoint");
    BDH_RETURN_IF_ERROR(weights_->CheckWhole());
    auto loaded = std::make_shared<LoadedModel>();
    loaded->memory = std::move(model_memory_);
    BDH_ASSIGN_OR_RETURN(loaded->tokenizer, tokenizer_.Build());
    BDH_ASSIGN_OR_RETURN(loaded->model, engine::BdhModel::Create(config_, weights_->tensors(), options_));
    return loaded;
  }

  const v1::Checkpoint& checkpoint() const { return checkpoint_; }

 private:
  absl::Status Begin(const v1::Checkpoint& checkpoint) {
    if (weights_.has_value()) return absl::DataLossError("the store sent two checkpoints");
    checkpoint_ = checkpoint;
    BDH_ASSIGN_OR_RETURN(config_, ConfigOf(checkpoint));
    BDH_ASSIGN_OR_RETURN(auto weights, WeightsInTransit::Expect(config_, checkpoint));
    BDH_ASSIGN_OR_RETURN(tokenizer_, TokenizerInTransit::Expect(checkpoint));
    // The model is built from a copy that came over the wire, so for a moment both are there.
    BDH_ASSIGN_OR_RETURN(model_memory_, memory_.Reserve(engine::BdhModel::WeightBytesFor(config_, options_),
                                                        "the model's weights"));
    BDH_ASSIGN_OR_RETURN(transit_memory_, memory_.Reserve(weights.size_bytes(),
                                                          "a second copy of the weights while they load"));
    weights_ = std::move(weights);
    return absl::OkStatus();
  }

  engine::MemoryBudget& memory_;
  const engine::BdhOptions options_;
  v1::Checkpoint checkpoint_;
  spec::ModelConfig config_;
  engine::MemoryBudget::Reservation model_memory_, transit_memory_;
  std::optional<WeightsInTransit> weights_;
  TokenizerInTransit tokenizer_;
};

v1::Model Describe(const LoadedModel& loaded, const v1::Checkpoint& checkpoint, int max_context_tokens) {
  v1::Model info;
  info.set_checkpoint(checkpoint.name());
  *info.mutable_config() = checkpoint.model();
  info.set_tokenizer(std::string(loaded.tokenizer->name()));
  info.set_parameter_count(loaded.model->parameter_count());
  info.set_weight_bytes(loaded.model->weight_bytes());
  info.set_max_context_tokens(
      static_cast<int32_t>(std::min<int64_t>(max_context_tokens, loaded.model->max_tokens())));
  info.set_state_bytes(loaded.model->StateBytes(info.max_context_tokens()));
  *info.mutable_load_time() = google::protobuf::util::TimeUtil::GetCurrentTime();
  info.set_fingerprint(loaded.model->fingerprint());
  return info;
}

}  // namespace

ModelLoader::ModelLoader(const mesh::Peer& store, engine::MemoryBudget& memory, int max_context_tokens,
                         const engine::BdhOptions& options)
    : store_(store),
      memory_(memory),
      max_context_tokens_(max_context_tokens),
      options_(options),
      stub_(v1::CheckpointStoreService::NewStub(store.channel())) {}

absl::StatusOr<std::shared_ptr<LoadedModel>> ModelLoader::Load(const std::string& id,
                                                               const std::string& reference,
                                                               const std::stop_token& stop,
                                                               const std::function<bool()>& cancelled) const {
  const absl::Time start = absl::Now();
  v1::Checkpoint header;
  const auto ended = [&] { return stop.stop_requested() || cancelled(); };
  auto found = IsPath(reference) ? LoadFiles(reference, memory_, options_, ended, header)
                                 : Fetch(reference, stop, cancelled, header);
  BDH_RETURN_IF_ERROR(found.status());
  std::shared_ptr<LoadedModel> loaded = *std::move(found);
  loaded->info = Describe(*loaded, header, max_context_tokens_);
  loaded->info.set_id(id);
  loaded->info.set_reference(reference);
  BDH_LOG(INFO) << "model loaded id=" << id << " checkpoint=" << loaded->info.checkpoint()
                << " parameters=" << loaded->info.parameter_count()
                << " took_ms=" << absl::ToInt64Milliseconds(absl::Now() - start);
  return loaded;
}

absl::StatusOr<std::shared_ptr<LoadedModel>> ModelLoader::Fetch(const std::string& reference,
                                                                const std::stop_token& stop,
                                                                const std::function<bool()>& cancelled,
                                                                v1::Checkpoint& header) const {
  v1::GetCheckpointRequest request;
  request.set_reference(reference);
  for (const char* prefix : kForeignPrefixes) request.add_prefixes_excluded(prefix);
  const auto context = store_.NewContext(kTransferTimeout);
  const std::stop_callback end_call(stop, [&context] { context->TryCancel(); });
  const Watcher watcher(cancelled, *context);
  const auto reader = stub_->GetCheckpoint(context.get(), request);

  Download download(memory_, options_);
  v1::GetCheckpointResponse message;
  std::optional<CheckpointPin> pin;
  absl::Status taken;
  while (taken.ok() && reader->Read(&message)) {
    // By name: a tag may move while the model loads.
    if (message.has_checkpoint() && !pin.has_value()) pin.emplace(store_, message.checkpoint().name());
    taken = download.Take(message);
  }
  if (taken.ok() && (stop.stop_requested() || watcher.has_ended_it())) {
    taken = absl::CancelledError("loading was cancelled");
  }
  if (!taken.ok()) context->TryCancel();
  const absl::Status outcome = store_.Outcome(reader->Finish());
  const std::string doing = absl::StrFormat("load %s", reference);
  BDH_RETURN_IF_ERROR(Annotate(taken, doing));
  BDH_RETURN_IF_ERROR(outcome);
  auto built = download.Build();
  BDH_RETURN_IF_ERROR(Annotate(built.status(), doing));
  header = download.checkpoint();
  return built;
}

}  // namespace bdh::inference
