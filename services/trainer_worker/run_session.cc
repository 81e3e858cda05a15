#include "services/trainer_worker/run_session.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/version.h"
#include "bdh/config/config.h"
#include "services/trainer_worker/convert.h"

namespace bdh::trainer_worker {
namespace {

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "";
}

std::string EffectiveConfig(const v1::Run& run) {
  v1::Config config;
  *config.mutable_model() = run.model();
  *config.mutable_train() = run.train();
  return config::ToYaml(config);
}

}  // namespace

Meters::Meters(telemetry::Metrics& metrics)
    : steps(metrics.Counter("bdh_trainer_steps_total", "Optimiser steps done.")),
      tokens(metrics.Counter("bdh_trainer_tokens_total", "Tokens trained on.")),
      loss(metrics.Gauge("bdh_trainer_loss", "Training loss, mean since the last report.")),
      validation_loss(metrics.Gauge("bdh_trainer_validation_loss", "Newest validation loss.")),
      tokens_per_second(metrics.Gauge("bdh_trainer_tokens_per_second", "Pace of the recent steps.")),
      checkpoint_seconds(metrics.Seconds("bdh_trainer_checkpoint_seconds",
                                         "Time until a checkpoint was safe in the store.")) {}

RunSession::RunSession(v1::Run run, RunBook& book, StoreClient& reader, StoreClient& writer,
                       const KeptStates& kept, Meters& meters)
    : run_(std::move(run)), book_(book), reader_(reader), writer_(writer), kept_(kept), meters_(meters) {}

v1::Checkpoint RunSession::Header(const training::CheckpointFacts& facts,
                                  std::span<const training::Tensor> tensors) const {
  v1::Checkpoint checkpoint;
  checkpoint.set_name(absl::StrFormat("runs/%s/steps/%d", run_.name(), facts.step));
  for (const training::Tensor& tensor : tensors) *checkpoint.add_tensors() = ToProto(tensor);
  *checkpoint.mutable_model() = run_.model();
  checkpoint.set_config_yaml(EffectiveConfig(run_));
  checkpoint.set_step(facts.step);
  if (facts.train_loss) checkpoint.set_train_loss(*facts.train_loss);
  if (facts.validation_loss) checkpoint.set_validation_loss(*facts.validation_loss);
  checkpoint.set_tokens_seen(facts.tokens_seen);
  checkpoint.set_parent(parent_);
  v1::DataCursor& cursor = *checkpoint.mutable_cursor();
  cursor.set_dataset(run_.dataset());
  cursor.set_dataset_hash(run_.dataset_hash());
  cursor.set_seed(run_.train().seed());
  cursor.set_next_step(facts.step);
  checkpoint.set_tokenizer(run_.tokenizer());
  checkpoint.set_host(HostName());
  checkpoint.set_software_version(Version());
  return checkpoint;
}

absl::Status RunSession::Save(const training::CheckpointFacts& facts,
                              std::span<const training::Tensor> of_trainer) {
  const absl::Time start = absl::Now();
  std::vector<training::Tensor> tensors(of_trainer.begin(), of_trainer.end());
  for (const v1::TokenizerFile& file : tokenizer_) {
    tensors.push_back({.name = kTokenizerPrefix + file.name(),
                       .dtype = training::DType::kU8,
                       .shape = {static_cast<int64_t>(file.data().size())},
                       .bytes = std::as_bytes(std::span(file.data()))});
  }
  const v1::Checkpoint checkpoint = Header(facts, tensors);
  if (const absl::Status put = Put(checkpoint, facts.best, tensors); !put.ok()) {
    return Keep(checkpoint, facts.best, tensors, put);
  }
  const absl::Duration took = absl::Now() - start;
  meters_.checkpoint_seconds.Observe(absl::ToDoubleSeconds(took));
  BDH_LOG(INFO) << "checkpoint saved name=" << checkpoint.name() << " best=" << facts.best
                << " took_ms=" << absl::ToInt64Milliseconds(took);
  parent_ = checkpoint.name();
  book_.UpdateDurably(run_.name(), [&](v1::Run& run) {
    run.set_checkpoint(checkpoint.name());
    *run.mutable_progress() = progress_;
  });
  v1::RunEvent event;
  event.set_checkpoint(checkpoint.name());
  book_.Publish(run_.name(), std::move(event));
  return absl::OkStatus();
}

absl::Status RunSession::Put(const v1::Checkpoint& checkpoint, bool best,
                             std::span<const training::Tensor> tensors) {
  BDH_RETURN_IF_ERROR(writer_.Put(checkpoint, tensors));
  return MoveTags(checkpoint.name(), best);
}

absl::Status RunSession::Keep(const v1::Checkpoint& checkpoint, bool best,
                              std::span<const training::Tensor> tensors, const absl::Status& why) const {
  const std::string reason(why.message());
  const auto path = kept_.Keep(run_.name(), checkpoint, best, tensors);
  if (!path.ok()) {
    return absl::Status(why.code(), absl::StrFormat("%s; it could not be kept on this disk either: %s",
                                                    reason, path.status().message()));
  }
  BDH_LOG(WARNING) << "checkpoint kept here, the store did not take it name=" << checkpoint.name()
                   << " file=" << *path << " error=" << reason;
  return absl::Status(why.code(),
                      absl::StrFormat("%s; it is kept in %s, and the run goes on from there when the "
                                      "store is back or it is resumed (bdhctl train start --resume)",
                                      reason, *path));
}

absl::Status RunSession::Deliver() {
  BDH_ASSIGN_OR_RETURN(const auto kept, kept_.Find(run_.name()));
  if (!kept) return absl::OkStatus();
  BDH_ASSIGN_OR_RETURN(const auto newest, reader_.Newest(run_.name()));
  if (!newest || newest->step() < kept->checkpoint.step()) {
    BDH_ASSIGN_OR_RETURN(const std::vector<training::Tensor> tensors, kept->Tensors());
    BDH_RETURN_IF_ERROR(Put(kept->checkpoint, kept->best, tensors));
    BDH_LOG(INFO) << "checkpoint delivered that was kept here name=" << kept->checkpoint.name();
    book_.UpdateDurably(run_.name(), [&](v1::Run& run) { run.set_checkpoint(kept->checkpoint.name()); });
    v1::RunEvent event;
    event.set_checkpoint(kept->checkpoint.name());
    book_.Publish(run_.name(), std::move(event));
  }
  kept_.Forget(run_.name());
  return absl::OkStatus();
}

absl::Status RunSession::MoveTags(const std::string& checkpoint, bool best) {
  BDH_RETURN_IF_ERROR(writer_.SetTag(run_.name() + "/latest", checkpoint));
  if (!best) return absl::OkStatus();
  BDH_RETURN_IF_ERROR(writer_.SetTag(run_.name() + "/best", checkpoint));
  return run_.tag().empty() ? absl::OkStatus() : writer_.SetTag(run_.tag(), checkpoint);
}

absl::Status RunSession::RepairTags(const v1::Checkpoint& checkpoint) {
  BDH_ASSIGN_OR_RETURN(const auto best, reader_.Describe(run_.name() + "/best"));
  const bool validates = run_.train().eval_interval() > 0;
  const bool is_best =
      !best || !validates ||
      (checkpoint.has_validation_loss() &&
       (!best->has_validation_loss() || checkpoint.validation_loss() <= best->validation_loss()));
  return MoveTags(checkpoint.name(), is_best);
}

absl::StatusOr<training::CheckpointFacts> RunSession::Load(std::span<const training::MutableTensor> tensors) {
  BDH_ASSIGN_OR_RETURN(const v1::Checkpoint checkpoint, reader_.Get(parent_, tensors));
  const std::string& hash = checkpoint.cursor().dataset_hash();
  if (hash != run_.dataset_hash()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("data set '%s' has other content now than when %s was written; start a new run",
                        run_.dataset(), checkpoint.name()));
  }
  book_.Update(run_.name(), [&](v1::Run& run) { run.set_checkpoint(checkpoint.name()); });
  training::CheckpointFacts facts{.step = checkpoint.step(), .tokens_seen = checkpoint.tokens_seen()};
  if (checkpoint.has_train_loss()) facts.train_loss = checkpoint.train_loss();
  if (checkpoint.has_validation_loss()) facts.validation_loss = checkpoint.validation_loss();
  BDH_LOG(INFO) << "continuing run=" << run_.name() << " from=" << checkpoint.name();
  return facts;
}

void RunSession::OnStep(const training::Progress& progress, bool report) {
  meters_.steps.Increment();
  meters_.tokens.Increment(static_cast<double>(run_.train().batch_size()) * run_.train().block_size());
  meters_.loss.Set(progress.train_loss);
  meters_.tokens_per_second.Set(progress.tokens_per_second);
  if (progress.validation_loss) meters_.validation_loss.Set(*progress.validation_loss);
  progress_ = ToProto(progress);
  book_.Update(run_.name(), [&](v1::Run& run) { *run.mutable_progress() = progress_; });
  if (!report) return;
  v1::RunEvent event;
  *event.mutable_progress() = progress_;
  book_.Publish(run_.name(), std::move(event));
}

}  // namespace bdh::trainer_worker
