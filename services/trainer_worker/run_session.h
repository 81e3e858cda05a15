// One run's dealings with the world while it trains: checkpoints to the store, progress to the book and the
// metrics.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "bdh/telemetry/metrics.h"
#include "bdh/training/exchange.h"
#include "bdh/v1/tokenizers.pb.h"
#include "bdh/v1/trainer.pb.h"
#include "services/trainer_worker/kept_states.h"
#include "services/trainer_worker/run_book.h"
#include "services/trainer_worker/store_client.h"

namespace bdh::trainer_worker {

// The metrics of a worker, over all its runs.
struct Meters {
  explicit Meters(telemetry::Metrics& metrics);
  prometheus::Counter& steps;
  prometheus::Counter& tokens;
  prometheus::Gauge& loss;
  prometheus::Gauge& validation_loss;
  prometheus::Gauge& tokens_per_second;
  prometheus::Histogram& checkpoint_seconds;
};

// Used by the thread that trains.
class RunSession final : public training::CheckpointSink,
                         public training::CheckpointSource,
                         public training::Observer {
 public:
  // `reader` may give up early, `writer` should not; all outlive this object.
  RunSession(v1::Run run, RunBook& book, StoreClient& reader, StoreClient& writer, const KeptStates& kept,
             Meters& meters);

  // Every checkpoint saved from here on carries these files, so that whoever serves it needs nothing else.
  void CarryTokenizer(std::vector<v1::TokenizerFile> files) { tokenizer_ = std::move(files); }
  // Load will read this checkpoint of the run, and the next one saved names it as its parent.
  void ContinueFrom(const v1::Checkpoint& checkpoint) { parent_ = checkpoint.name(); }
  // Tags of the checkpoint that is continued from, whose writer may have died before it set them. After Load,
  // and only if what came is good.
  absl::Status RepairTags(const v1::Checkpoint& checkpoint);
  // Gives what is kept of this run to the store, unless that has it or a later one, and keeps it no longer.
  absl::Status Deliver();

  // A checkpoint that the store does not take is kept on this disk; the error says so.
  absl::Status Save(const training::CheckpointFacts& facts,
                    std::span<const training::Tensor> tensors) override;
  absl::StatusOr<training::CheckpointFacts> Load(std::span<const training::MutableTensor> tensors) override;
  void OnStep(const training::Progress& progress, bool report) override;

 private:
  v1::Checkpoint Header(const training::CheckpointFacts& facts,
                        std::span<const training::Tensor> tensors) const;
  absl::Status Put(const v1::Checkpoint& checkpoint, bool best, std::span<const training::Tensor> tensors);
  // `why` the store did not take it.
  absl::Status Keep(const v1::Checkpoint& checkpoint, bool best, std::span<const training::Tensor> tensors,
                    const absl::Status& why) const;
  absl::Status MoveTags(const std::string& checkpoint, bool best);

  const v1::Run run_;
  RunBook& book_;
  StoreClient& reader_;
  StoreClient& writer_;
  const KeptStates& kept_;
  Meters& meters_;
  std::vector<v1::TokenizerFile> tokenizer_;
  std::string parent_;
  v1::Progress progress_;
};

}  // namespace bdh::trainer_worker
