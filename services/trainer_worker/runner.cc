#include "services/trainer_worker/runner.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/telemetry/trace.h"
#include "bdh/training/machine.h"
#include "services/trainer_worker/backoff.h"
#include "services/trainer_worker/batch_stream.h"
#include "services/trainer_worker/convert.h"

namespace bdh::trainer_worker {
namespace {

// The same batches for every run, so that validation losses compare.
constexpr uint64_t kValidationSeed = 1;

BatchStream::Options StreamOf(const v1::Run& run, v1::Split split, absl::Duration patience) {
  BatchStream::Options options{.patience = patience};
  v1::StreamBatchesRequest& request = options.request;
  request.set_dataset(run.dataset());
  request.set_dataset_hash(run.dataset_hash());
  request.set_split(split);
  request.set_batch_size(run.train().batch_size());
  request.set_block_size(run.train().block_size());
  const bool train = split == v1::SPLIT_TRAIN;
  request.set_seed(train ? run.train().seed() : kValidationSeed);
  request.set_step_count(train ? run.train().max_steps() : run.train().eval_batches());
  return options;
}

}  // namespace

Runner::Runner(Options options, RunBook& book, const mesh::Peer& data_loader,
               const mesh::Peer& checkpoint_store, telemetry::Metrics& metrics)
    : options_(std::move(options)),
      book_(book),
      data_loader_(data_loader),
      checkpoint_store_(checkpoint_store),
      meters_(metrics) {}

Runner::~Runner() {
  Drain(absl::ZeroDuration());
}

absl::StatusOr<Runner::Reservation> Runner::Reserve(const std::string& run) {
  MutexLock lock(mutex_);
  while (ending_) changed_.Wait(mutex_);  // Whoever saw the last run end may start the next.
  if (draining_) return absl::UnavailableError("the trainer-worker is leaving");
  if (!busy_.empty()) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "this worker is training run '%s'; wait for its end or stop it (bdhctl train stop %s)", busy_,
        busy_));
  }
  busy_ = run;
  return Reservation(this);
}

void Runner::Release() {
  MutexLock lock(mutex_);
  busy_.clear();
  launched_ = false;
  stop_asked_ = false;
  ending_ = false;
  changed_.NotifyAll();
}

void Runner::Launch(Reservation place, const v1::Run& run, Start start) {
  place.runner_ = nullptr;  // From here on the thread releases it.
  std::jthread before;
  MutexLock lock(mutex_);
  // The thread before has released its place as the last thing it did.
  // The run goes on under the trace of who started it.
  const auto trace = telemetry::Trace::Continue(telemetry::Trace::Current().ToString());
  before = std::exchange(thread_, std::jthread([this, run, start, trace](std::stop_token stop) {
                           const telemetry::ScopedTrace scope(trace);
                           Train(run, start, std::move(stop));
                         }));
  launched_ = true;
  if (draining_ || stop_asked_) thread_.request_stop();
}

absl::Status Runner::RequestStop(const std::string& run) {
  MutexLock lock(mutex_);
  if (busy_ != run) return absl::FailedPreconditionError(absl::StrFormat("run '%s' is not running", run));
  stop_asked_ = true;
  if (launched_) thread_.request_stop();
  return absl::OkStatus();
}

void Runner::Drain(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  std::jthread thread;
  {
    MutexLock lock(mutex_);
    draining_ = true;
    thread_.request_stop();
    while (!busy_.empty() && absl::Now() < deadline) {
      changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(deadline - absl::Now()));
    }
    thread = std::move(thread_);
  }
  abandon_.request_stop();
}

std::string Runner::busy_with() const {
  MutexLock lock(mutex_);
  return busy_;
}

void Runner::Train(const v1::Run& run, Start start, std::stop_token stop) {
  BDH_LOG(INFO) << "training run=" << run.name() << " dataset=" << run.dataset()
                << " parameters=" << run.parameter_count() << " max_steps=" << run.train().max_steps();
  const absl::StatusOr<Outcome> outcome = TrainToEnd(run, start, stop);
  training::ReturnFreedMemory();
  bool draining = false;
  {
    MutexLock lock(mutex_);
    draining = draining_;
  }
  const bool finished = outcome.ok() && *outcome == Outcome::kFinished;
  if (draining && !finished) {
    BDH_LOG(INFO) << "run waits for the next start of this worker run=" << run.name()
                  << " error=" << outcome.status().message();
    Release();
    return;
  }
  End(run, outcome);
}

void Runner::End(const v1::Run& run, const absl::StatusOr<Outcome>& outcome) {
  v1::Run::State state = v1::Run::STATE_FINISHED;
  std::string message;
  if (outcome.ok()) {
    if (*outcome == Outcome::kStopped) state = v1::Run::STATE_STOPPED;
  } else {
    state = v1::Run::STATE_FAILED;
    message = std::string(outcome.status().message());
  }
  BDH_LOG(INFO) << "run ended run=" << run.name() << " state=" << v1::Run::State_Name(state)
                << " message=" << message;
  {
    MutexLock lock(mutex_);
    ending_ = true;
  }
  // The record first: whoever resumes this run must not find it overwritten by its past.
  book_.Finish(run.name(), state, message);
  Release();
}

absl::Status Runner::WaitForDataLoader(const v1::Run& run, std::stop_token stop) {
  const auto stub = v1::DataLoaderService::NewStub(data_loader_.channel());
  v1::DescribeDatasetRequest request;
  request.set_name(run.dataset());
  Backoff backoff(absl::InfiniteDuration());
  while (true) {
    const absl::Status status =
        data_loader_
            .Call(*stub, &v1::DataLoaderService::Stub::DescribeDataset, request, options_.call_timeout)
            .status();
    if (!IsTransient(status) || !backoff.Wait(stop)) return status;
  }
}

absl::StatusOr<Runner::Outcome> Runner::TrainToEnd(const v1::Run& run, Start start, std::stop_token stop) {
  const bool after_restart = start == Start::kAfterRestart;
  const absl::Duration patience = options_.patience;
  StoreClient reader(checkpoint_store_, {.call_timeout = options_.call_timeout,
                                         .patience = after_restart ? absl::InfiniteDuration() : patience,
                                         .abandon = stop});
  StoreClient writer(
      checkpoint_store_,
      {.call_timeout = options_.call_timeout, .patience = patience, .abandon = abandon_.get_token()});
  RunSession session(run, book_, reader, writer, meters_);
  const auto prepare = [&]() -> absl::StatusOr<std::unique_ptr<training::Trainer>> {
    std::optional<v1::Checkpoint> newest;
    if (after_restart) BDH_RETURN_IF_ERROR(WaitForDataLoader(run, stop));
    if (start != Start::kFresh) {
      BDH_ASSIGN_OR_RETURN(newest, reader.Newest(run.name()));
    }
    BDH_ASSIGN_OR_RETURN(auto trainer, training::Trainer::Create(ToSpec(run.model()),
                                                                 ToOptions(run.train(), options_.threads)));
    if (newest) {
      session.ContinueFrom(*newest);
      BDH_RETURN_IF_ERROR(trainer->Restore(session));
    }
    return trainer;
  };
  auto trainer = prepare();
  if (!trainer.ok() && stop.stop_requested()) return Outcome::kStopped;
  if (!trainer.ok()) return trainer.status();
  book_.UpdateDurably(run.name(), [](v1::Run& record) { record.set_state(v1::Run::STATE_RUNNING); });
  BatchStream train(data_loader_, StreamOf(run, v1::SPLIT_TRAIN, patience));
  BatchStream validation(data_loader_, StreamOf(run, v1::SPLIT_VALIDATION, patience));
  return (*trainer)->Run({.train = train,
                          .validation = run.train().eval_interval() > 0 ? &validation : nullptr,
                          .checkpoints = session,
                          .observer = session},
                         stop);
}

}  // namespace bdh::trainer_worker
