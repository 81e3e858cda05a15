#include "services/trainer_worker/runner.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/config/model_config.h"
#include "bdh/telemetry/trace.h"
#include "bdh/training/machine.h"
#include "bdh/v1/tokenizers.grpc.pb.h"
#include "services/trainer_worker/backoff.h"
#include "services/trainer_worker/batch_stream.h"
#include "services/trainer_worker/convert.h"

namespace bdh::trainer_worker {
namespace {

// The same batches for every run, so that validation losses compare.
constexpr uint64_t kValidationSeed = 1;
// How often the worker looks whether it keeps something for the store.
constexpr absl::Duration kDeliveryInterval = absl::Seconds(1);
constexpr absl::Duration kProbeTimeout = absl::Seconds(2);  // A drain waits for it.

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

Runner::Runner(Options options, RunBook& book, const KeptStates& kept, const mesh::Peer& data_loader,
               const mesh::Peer& checkpoint_store, telemetry::Metrics& metrics)
    : options_(std::move(options)),
      book_(book),
      kept_(kept),
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
  const absl::Time start = absl::Now();
  // First, so that it launches nothing.
  deliverer_.request_stop();
  if (deliverer_.joinable()) deliverer_.join();
  std::jthread thread;
  const auto wait_until = [this](absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    while (!busy_.empty() && absl::Now() < deadline) {
      changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(deadline - absl::Now()));
    }
  };
  {
    MutexLock lock(mutex_);
    draining_ = true;
    thread_.request_stop();
    // A store that is away by then is away; what is being sent may take the whole time.
    wait_until(start + timeout / 2);
    hurry_.request_stop();
    wait_until(start + timeout);
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
    BDH_LOG(INFO) << "run waits for the next start of this worker run=" << run.name() << " saved="
                  << (outcome.ok() ? SavedAs(run.name()) : std::string(outcome.status().message()));
    Release();
    return;
  }
  End(run, outcome);
}

std::string Runner::SavedAs(const std::string& run) const {
  const auto record = book_.Find(run);
  return record.ok() ? record->checkpoint() : "";
}

void Runner::End(const v1::Run& run, const absl::StatusOr<Outcome>& outcome) {
  RunBook::End end{.state = v1::Run::STATE_FINISHED};
  bool asked = false;
  {
    MutexLock lock(mutex_);
    ending_ = true;
    asked = stop_asked_;
  }
  if (outcome.ok()) {
    if (*outcome == Outcome::kStopped) end.state = v1::Run::STATE_STOPPED;
  } else {
    // What is kept is not lost: such a run goes on when the store is back, unless somebody wanted it to stop.
    const bool kept = kept_.Has(run.name());
    end.state = kept ? v1::Run::STATE_STOPPED : v1::Run::STATE_FAILED;
    end.message = std::string(outcome.status().message());
    end.waits_for_store = kept && !asked && IsTransient(outcome.status());
  }
  BDH_LOG(INFO) << "run ended run=" << run.name() << " state=" << v1::Run::State_Name(end.state)
                << " checkpoint=" << SavedAs(run.name()) << " message=" << end.message;
  // The record first: whoever resumes this run must not find it overwritten by its past.
  book_.Finish(run.name(), end);
  Release();
}

void Runner::BeginDelivering() {
  deliverer_ = std::jthread([this](std::stop_token stop) { DeliverKept(std::move(stop)); });
}

void Runner::DeliverKept(std::stop_token stop) {
  std::set<std::string> refused;  // For good: each is told once.
  while (!stop.stop_requested()) {
    const std::vector<std::string> runs = kept_.Runs();
    std::erase_if(refused, [&](const std::string& name) { return !kept_.Has(name); });
    for (const std::string& name : runs) {
      // One that trains delivers by itself.
      if (refused.contains(name) || name == busy_with()) continue;
      const absl::Status delivered = DeliverOne(name, stop);
      if (delivered.ok() || IsTransient(delivered)) continue;
      BDH_LOG(ERROR) << "kept state is not delivered run=" << name << " error=" << delivered.message();
      refused.insert(name);
    }
    Pause(kDeliveryInterval, stop);
  }
}

absl::Status Runner::DeliverOne(const std::string& name, std::stop_token stop) {
  BDH_ASSIGN_OR_RETURN(const v1::Run run, book_.Find(name));
  StoreClient store(checkpoint_store_, {.call_timeout = std::min(options_.call_timeout, kProbeTimeout),
                                        .patience = {},
                                        .hurry = {},
                                        .abandon = stop});
  BDH_RETURN_IF_ERROR(store.Newest(name).status());
  if (!run.waits_for_store()) {
    // It was stopped, or has failed since: the state alone.
    RunSession session(run, book_, store, store, kept_, meters_);
    return session.Deliver();
  }
  // Not while another run trains; the next round asks again.
  BDH_ASSIGN_OR_RETURN(Reservation place, Reserve(name));
  BDH_RETURN_IF_ERROR(book_.Reopen(run));
  BDH_ASSIGN_OR_RETURN(const v1::Run reopened, book_.Find(name));
  BDH_LOG(INFO) << "the store is back, going on run=" << name;
  Launch(std::move(place), reopened, Start::kResume);
  return absl::OkStatus();
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

// The byte tokenizer is everywhere; another one goes with the checkpoints.
absl::StatusOr<std::vector<v1::TokenizerFile>> Runner::FetchTokenizer(const v1::Run& run,
                                                                      std::stop_token stop) {
  if (run.tokenizer().empty() || run.tokenizer() == "byte") return std::vector<v1::TokenizerFile>();
  const auto stub = v1::TokenizerService::NewStub(data_loader_.channel());
  v1::ExportTokenizerRequest request;
  request.set_name(run.tokenizer());
  Backoff backoff(options_.patience);
  while (true) {
    auto response = data_loader_.Call(*stub, &v1::TokenizerService::Stub::ExportTokenizer, request,
                                      options_.call_timeout);
    if (response.ok()) {
      return std::vector<v1::TokenizerFile>(response->files().begin(), response->files().end());
    }
    if (!IsTransient(response.status()) || !backoff.Wait(stop)) {
      return Annotate(response.status(), absl::StrFormat("fetch tokenizer '%s'", run.tokenizer()));
    }
  }
}

absl::StatusOr<std::unique_ptr<training::Trainer>> Runner::Prepare(const v1::Run& run, Start start,
                                                                   StoreClient& reader, RunSession& session,
                                                                   std::stop_token stop) {
  const auto create = [&] {
    return training::Trainer::Create(config::ToSpec(run.model()), ToOptions(run.train(), options_.threads));
  };
  if (start == Start::kFresh) return create();
  if (start == Start::kAfterRestart) BDH_RETURN_IF_ERROR(WaitForDataLoader(run, stop));
  BDH_RETURN_IF_ERROR(session.Deliver());
  BDH_ASSIGN_OR_RETURN(const std::vector<v1::Checkpoint> checkpoints, reader.ByStep(run.name()));
  for (const v1::Checkpoint& checkpoint : checkpoints) {
    BDH_ASSIGN_OR_RETURN(auto trainer, create());
    session.ContinueFrom(checkpoint);
    const absl::Status restored = trainer->Restore(session);
    if (restored.ok()) {
      BDH_RETURN_IF_ERROR(session.RepairTags(checkpoint));
      return trainer;
    }
    if (!absl::IsOutOfRange(restored) || checkpoint.name() == checkpoints.back().name()) return restored;
    BDH_LOG(WARNING) << "trying the checkpoint before name=" << checkpoint.name()
                     << " error=" << restored.message();
  }
  return create();
}

absl::StatusOr<Runner::Outcome> Runner::TrainToEnd(const v1::Run& run, Start start, std::stop_token stop) {
  const absl::Duration patience = options_.patience;
  StoreClient reader(checkpoint_store_,
                     {.call_timeout = options_.call_timeout,
                      .patience = start == Start::kAfterRestart ? absl::InfiniteDuration() : patience,
                      .hurry = stop,
                      .abandon = stop});
  StoreClient writer(checkpoint_store_, {.call_timeout = options_.call_timeout,
                                         .patience = patience,
                                         .hurry = hurry_.get_token(),
                                         .abandon = abandon_.get_token()});
  RunSession session(run, book_, reader, writer, kept_, meters_);
  auto trainer = Prepare(run, start, reader, session, stop);
  if (!trainer.ok() && stop.stop_requested()) return Outcome::kStopped;
  if (!trainer.ok()) return trainer.status();
  auto tokenizer = FetchTokenizer(run, stop);
  if (!tokenizer.ok() && stop.stop_requested()) return Outcome::kStopped;
  BDH_RETURN_IF_ERROR(tokenizer.status());
  session.CarryTokenizer(*std::move(tokenizer));
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
