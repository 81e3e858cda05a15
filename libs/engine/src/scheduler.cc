#include "bdh/engine/scheduler.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/cores.h"
#include "bdh/base/exceptions.h"
#include "bdh/base/log.h"
#include "bdh/base/mutex.h"
#include "bdh/base/status_macros.h"
#include "bdh/engine/text_assembler.h"
#include "decode_task.h"

namespace bdh::engine {
namespace {

// Where a generation stands. From kBusy on its task belongs to whoever made it so, until it is put back.
enum class Phase {
  kQueued,  // In queue_.
  kReady,   // In ready_: waits for a thread.
  kBusy,    // A thread works on it, or takes it apart.
  kParked,  // Waits for its reader.
  kWaking,  // In waking_: its reader came, and it waits for a place among the active.
  kDone,
};

// By priority, then by arrival: -priority, which for the least int is no int, and a count of arrivals.
using Order = std::pair<int64_t, uint64_t>;

struct Entry {
  explicit Entry(GenerationRequest request) : task(std::move(request)) {}

  DecodeTask task;  // Whoever made the entry kBusy.
  std::stop_source stop;
  MemoryBudget::Reservation reservation;  // As `task`.
  const absl::Time submitted = absl::Now();
  absl::Time first_token, last_token;  // As `task`.

  // Guarded by the scheduler's mutex.
  Phase phase = Phase::kQueued;
  Order order;  // In the queue.
  GenerationOutput unread;
  int64_t produced = 0, read = 0;  // Tokens.
  absl::Status status;             // Once kDone: why there is no finish.
  CondVar news;
};
using EntryPtr = std::shared_ptr<Entry>;

class SchedulerImpl final : public Scheduler {
 public:
  explicit SchedulerImpl(const Options& options);
  ~SchedulerImpl() override;

  absl::StatusOr<std::unique_ptr<Generation>> Submit(GenerationRequest request) override;
  Load load() const override;
  void StopAdmitting() override;
  bool AwaitIdle(absl::Duration timeout) override;
  void CancelAll() override;

  absl::StatusOr<std::optional<GenerationOutput>> Next(const EntryPtr& entry, absl::Duration timeout);
  void Cancel(const EntryPtr& entry);

 private:
  absl::Status Check(const GenerationRequest& request) const;
  absl::Status Enqueue(const EntryPtr& entry);
  void Work();
  std::vector<EntryPtr> TakeReady();
  std::vector<DecodeTask::Turn> TakeTurns(std::span<const EntryPtr> entries);
  DecodeTask::Turn TakeTurn(Entry& entry, bool stepped);
  absl::Status StepAll(std::span<const EntryPtr> entries);
  void Observe(Entry& entry, const DecodeTask::Turn& turn);
  void Deliver(const EntryPtr& entry, DecodeTask::Turn turn);
  void Retire(const EntryPtr& entry, absl::Status status, std::optional<FinishReason> finish);
  void Admit() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AdmitOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  EntryPtr NextInQueue() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MakeReady(const EntryPtr& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(const EntryPtr& entry, absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  mutable Mutex mutex_;
  CondVar work_, idle_;
  std::map<Order, EntryPtr> queue_ ABSL_GUARDED_BY(mutex_);
  std::deque<EntryPtr> ready_ ABSL_GUARDED_BY(mutex_);
  std::deque<EntryPtr> waking_ ABSL_GUARDED_BY(mutex_);
  std::set<EntryPtr> all_ ABSL_GUARDED_BY(mutex_);  // Those not done.
  uint64_t arrivals_ ABSL_GUARDED_BY(mutex_) = 0;
  int active_ ABSL_GUARDED_BY(mutex_) = 0;   // Ready or busy.
  int holders_ ABSL_GUARDED_BY(mutex_) = 0;  // With memory set aside for their state.
  bool admitting_ ABSL_GUARDED_BY(mutex_) = true;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  const size_t thread_count_;
  std::vector<std::jthread> threads_;
};

class GenerationImpl final : public Generation {
 public:
  GenerationImpl(SchedulerImpl& scheduler, EntryPtr entry)
      : scheduler_(scheduler), entry_(std::move(entry)) {}
  ~GenerationImpl() override { Cancel(); }
  absl::StatusOr<std::optional<GenerationOutput>> Next(absl::Duration timeout) override {
    return scheduler_.Next(entry_, timeout);
  }
  void Cancel() override { scheduler_.Cancel(entry_); }

 private:
  SchedulerImpl& scheduler_;
  const EntryPtr entry_;
};

SchedulerImpl::SchedulerImpl(const Options& options)
    : options_(options), thread_count_(ThreadCount(options.threads)) {
  for (size_t i = 0; i < thread_count_; ++i) threads_.emplace_back([this] { Work(); });
}

SchedulerImpl::~SchedulerImpl() {
  StopAdmitting();
  CancelAll();
  AwaitIdle(absl::InfiniteDuration());
  MutexLock lock(mutex_);
  stopping_ = true;
  work_.NotifyAll();
}

absl::Status SchedulerImpl::Check(const GenerationRequest& request) const {
  BDH_CHECK(request.model != nullptr && request.tokenizer != nullptr);
  if (request.prompt.empty()) return absl::InvalidArgumentError("the prompt has no tokens; want at least 1");
  const int32_t vocabulary = request.model->vocab_size();
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    if (request.prompt[i] >= 0 && request.prompt[i] < vocabulary) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("token %d of the prompt is %d, which is outside the vocabulary; want 0 to %d", i,
                        request.prompt[i], vocabulary - 1));
  }
  if (request.max_tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("max_tokens is %d; want 0 or more", request.max_tokens));
  }
  BDH_RETURN_IF_ERROR(Validate(request.sampling));
  // A chat template adds its own to the client's.
  BDH_RETURN_IF_ERROR(ValidateStops(request.stops, 2 * kMaxStops));
  if (request.max_tokens <= request.model->max_tokens() - static_cast<int64_t>(request.prompt.size())) {
    return absl::OkStatus();
  }
  return absl::OutOfRangeError(
      absl::StrFormat("%d tokens of prompt and %d to generate exceed the %d the model can decode",
                      request.prompt.size(), request.max_tokens, request.model->max_tokens()));
}

absl::StatusOr<std::unique_ptr<Generation>> SchedulerImpl::Submit(GenerationRequest request) {
  BDH_RETURN_IF_ERROR(Check(request));
  auto entry = std::make_shared<Entry>(std::move(request));
  BDH_RETURN_IF_ERROR(Enqueue(entry));
  return std::make_unique<GenerationImpl>(*this, std::move(entry));
}

int64_t StateBytes(const GenerationRequest& request) {
  return request.model->StateBytes(static_cast<int64_t>(request.prompt.size()) + request.max_tokens);
}

absl::Status SchedulerImpl::Enqueue(const EntryPtr& entry) {
  const GenerationRequest& request = entry->task.request();
  MutexLock lock(mutex_);
  if (!admitting_)
    return absl::UnavailableError("bdh-inference is shutting down and takes no new generations");
  entry->order = {-int64_t{request.priority}, arrivals_++};
  queue_.emplace(entry->order, entry);
  all_.insert(entry);
  Admit();
  if (entry->phase == Phase::kDone) return entry->status;  // Its state can never fit.
  if (entry->phase == Phase::kQueued && static_cast<int>(queue_.size()) > options_.max_queue) {
    End(entry, absl::CancelledError());
    return absl::ResourceExhaustedError(
        absl::StrFormat("the queue is full: %d generations are active and %d wait (inference.max_active, "
                        "inference.max_queue); try again later",
                        active_, queue_.size()));
  }
  return absl::OkStatus();
}

// Fills the places that are free.
void SchedulerImpl::Admit() {
  while (active_ < options_.max_active && AdmitOne()) {
  }
}

bool SchedulerImpl::AdmitOne() {
  if (!waking_.empty()) {
    const EntryPtr entry = waking_.front();
    waking_.pop_front();
    MakeReady(entry);
    return true;
  }
  if (queue_.empty()) return false;
  const EntryPtr entry = NextInQueue();
  auto reservation =
      options_.memory->Reserve(StateBytes(entry->task.request()), "the state of one generation");
  if (!reservation.ok()) {
    // While others hold memory it waits for theirs; when nobody does, no memory will come free.
    if (holders_ > 0) return false;
    End(entry, reservation.status());
    return true;
  }
  entry->reservation = *std::move(reservation);
  ++holders_;
  queue_.erase(entry->order);
  MakeReady(entry);
  return true;
}

// Of those with the highest priority the first of the tenant that has the fewest active; of equal tenants the
// one that came first. The queue is not empty.
EntryPtr SchedulerImpl::NextInQueue() const {
  std::map<std::string_view, int> active;
  for (const EntryPtr& entry : all_) {
    const bool is_active = entry->phase == Phase::kReady || entry->phase == Phase::kBusy;
    if (is_active) ++active[entry->task.request().tenant];
  }
  EntryPtr next;
  int fewest = 0;
  for (const auto& [order, entry] : queue_) {
    if (order.first != queue_.begin()->first.first) break;
    const int count = active[entry->task.request().tenant];
    if (next != nullptr && count >= fewest) continue;
    next = entry;
    fewest = count;
  }
  return next;
}

void SchedulerImpl::MakeReady(const EntryPtr& entry) {
  entry->phase = Phase::kReady;
  ++active_;
  ready_.push_back(entry);
  work_.NotifyOne();
}

void SchedulerImpl::Work() {
  while (true) {
    const std::vector<EntryPtr> entries = TakeReady();
    if (entries.empty()) return;
    std::vector<DecodeTask::Turn> turns = TakeTurns(entries);
    for (size_t i = 0; i < entries.size(); ++i) Deliver(entries[i], std::move(turns[i]));
  }
}

// Those that are taken together are stepped together. A step that fails has changed nothing, so that each can
// be tried alone and the failure ends the one that it belongs to.
std::vector<DecodeTask::Turn> SchedulerImpl::TakeTurns(std::span<const EntryPtr> entries) {
  std::vector<DecodeTask::Turn> turns;
  const bool stepped = entries.size() > 1 && StepAll(entries).ok();
  for (const EntryPtr& entry : entries) turns.push_back(TakeTurn(*entry, stepped));
  return turns;
}

absl::Status SchedulerImpl::StepAll(std::span<const EntryPtr> entries) {
  return CatchExceptions([&] {
    std::vector<DecodeModel::StepInput> inputs;
    for (const EntryPtr& entry : entries) inputs.push_back(entry->task.NextStep());
    return entries[0]->task.request().model->Step(inputs);
  });
}

// An exception ends its generation, not the process.
DecodeTask::Turn SchedulerImpl::TakeTurn(Entry& entry, bool stepped) {
  DecodeTask::Turn turn;
  absl::Status status = CatchExceptions([&] {
    const std::stop_token stop = entry.stop.get_token();
    if (!stepped) {
      turn = entry.task.Take(options_.prefill_chunk, stop);
    } else {
      turn = entry.task.Finish(stop.stop_requested() ? absl::CancelledError("the generation was cancelled")
                                                     : absl::OkStatus());
    }
    Observe(entry, turn);
    return turn.status;
  });
  turn.status = std::move(status);
  return turn;
}

absl::Status Append(const TextAssembler::Piece& piece, GenerationOutput& output) {
  return CatchExceptions([&] {
    output.text += piece.text;
    output.tokens.insert(output.tokens.end(), piece.tokens.begin(), piece.tokens.end());
    return absl::OkStatus();
  });
}

// The one whose turn it is; if it decodes, with a thread's share of the others that decode with its model, so
// that they read its weights once. Empty: the scheduler ends.
std::vector<EntryPtr> SchedulerImpl::TakeReady() {
  MutexLock lock(mutex_);
  while (ready_.empty() && !stopping_) work_.Wait(mutex_);
  std::vector<EntryPtr> taken;
  if (ready_.empty()) return taken;
  const size_t share = (ready_.size() + thread_count_ - 1) / thread_count_;
  const DecodeModel* model = ready_.front()->task.request().model.get();
  const bool steps = ready_.front()->task.wants_step();
  for (auto at = ready_.begin(); at != ready_.end() && taken.size() < share;) {
    const DecodeTask& task = (*at)->task;
    const bool joins = taken.empty() || (steps && task.wants_step() && task.request().model.get() == model);
    if (!joins) {
      ++at;
      continue;
    }
    (*at)->phase = Phase::kBusy;
    taken.push_back(std::move(*at));
    at = ready_.erase(at);
  }
  return taken;
}

void SchedulerImpl::Observe(Entry& entry, const DecodeTask::Turn& turn) {
  if (!turn.produced) return;
  const absl::Time now = absl::Now();
  const bool is_first = entry.task.completion_tokens() == 1;
  if (is_first) entry.first_token = now;
  if (options_.observer != nullptr && is_first) options_.observer->FirstToken(now - entry.submitted);
  if (options_.observer != nullptr && !is_first) options_.observer->NextToken(now - entry.last_token);
  entry.last_token = now;
}

// Hands a turn's output to the reader and puts the entry where it belongs next.
void SchedulerImpl::Deliver(const EntryPtr& entry, DecodeTask::Turn turn) {
  {
    MutexLock lock(mutex_);
    GenerationOutput& unread = entry->unread;
    if (turn.status.ok()) turn.status = Append(turn.piece, unread);
    unread.completion_tokens = entry->task.completion_tokens();
    entry->produced = entry->task.completion_tokens();
    if (turn.status.ok() && !turn.finish.has_value()) {
      if (!unread.text.empty() || !unread.tokens.empty()) entry->news.NotifyAll();
      const bool is_ahead = entry->produced - entry->read >= options_.max_unread_tokens;
      // One that was cancelled during its turn has no reader left to wake it: its next turn ends it.
      if (is_ahead && !entry->stop.stop_requested()) {
        entry->phase = Phase::kParked;
        --active_;
        entry->news.NotifyAll();
        Admit();
      } else {
        entry->phase = Phase::kReady;
        ready_.push_back(entry);
        if (ready_.size() > 1) work_.NotifyOne();  // One we take ourselves.
      }
      return;
    }
  }
  Retire(entry, std::move(turn.status), turn.finish);
}

// Ends an entry that the caller made kBusy. Memory is given back before anybody is told, and outside the
// lock, because freeing a large state takes a while.
void SchedulerImpl::Retire(const EntryPtr& entry, absl::Status status, std::optional<FinishReason> finish) {
  entry->task.FreeState();
  entry->reservation.Release();
  if (options_.observer != nullptr) {
    options_.observer->Left({.prompt_tokens = entry->task.prompt_tokens_read(),
                             .completion_tokens = entry->task.completion_tokens(),
                             .decoding = entry->last_token - entry->first_token});
  }
  MutexLock lock(mutex_);
  --active_;
  --holders_;
  entry->unread.finish = finish;
  End(entry, std::move(status));
  Admit();
}

void SchedulerImpl::End(const EntryPtr& entry, absl::Status status) {
  if (entry->phase == Phase::kQueued) queue_.erase(entry->order);
  entry->phase = Phase::kDone;
  entry->status = std::move(status);
  entry->news.NotifyAll();
  all_.erase(entry);
  if (all_.empty()) idle_.NotifyAll();
}

absl::StatusOr<std::optional<GenerationOutput>> SchedulerImpl::Next(const EntryPtr& entry,
                                                                    absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(mutex_);
  GenerationOutput& unread = entry->unread;
  // A generation that was parked with nothing to show (all of it held back) goes on at once.
  const auto has_news = [&] {
    return entry->phase == Phase::kDone || entry->phase == Phase::kParked || !unread.text.empty() ||
           !unread.tokens.empty();
  };
  while (!has_news()) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return std::optional<GenerationOutput>();
    entry->news.WaitFor(mutex_, absl::ToChronoNanoseconds(std::min(left, absl::Seconds(1))));
  }
  if (entry->phase == Phase::kDone && !entry->status.ok()) return entry->status;
  entry->read = entry->produced;
  if (entry->phase == Phase::kParked) {
    entry->phase = Phase::kWaking;
    waking_.push_back(entry);
    Admit();
  }
  GenerationOutput output = std::exchange(unread, {});
  unread.completion_tokens = output.completion_tokens;
  return std::make_optional(std::move(output));
}

void SchedulerImpl::Cancel(const EntryPtr& entry) {
  entry->stop.request_stop();
  {
    MutexLock lock(mutex_);
    switch (entry->phase) {
      case Phase::kBusy:  // Its thread sees the request.
      case Phase::kDone:
        return;
      case Phase::kQueued:
        End(entry, absl::CancelledError("the generation was cancelled"));
        Admit();  // It may have been what the others waited behind.
        return;
      case Phase::kReady:
        std::erase(ready_, entry);
        break;
      case Phase::kWaking:
        std::erase(waking_, entry);
        ++active_;
        break;
      case Phase::kParked:
        ++active_;
        break;
    }
    entry->phase = Phase::kBusy;
  }
  Retire(entry, absl::CancelledError("the generation was cancelled"), std::nullopt);
}

Scheduler::Load SchedulerImpl::load() const {
  MutexLock lock(mutex_);
  const int queued = static_cast<int>(queue_.size());
  return {.active = active_, .parked = static_cast<int>(all_.size()) - queued - active_, .queued = queued};
}

void SchedulerImpl::StopAdmitting() {
  MutexLock lock(mutex_);
  admitting_ = false;
}

bool SchedulerImpl::AwaitIdle(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(mutex_);
  while (!all_.empty()) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    idle_.WaitFor(mutex_, absl::ToChronoNanoseconds(std::min(left, absl::Seconds(1))));
  }
  return true;
}

void SchedulerImpl::CancelAll() {
  std::set<EntryPtr> all;
  {
    MutexLock lock(mutex_);
    all = all_;
  }
  for (const EntryPtr& entry : all) Cancel(entry);
}

}  // namespace

std::unique_ptr<Scheduler> Scheduler::Create(const Options& options) {
  BDH_CHECK(options.memory != nullptr && options.max_active > 0 && options.max_queue >= 0);
  BDH_CHECK(options.prefill_chunk > 0 && options.max_unread_tokens > 0);
  return std::make_unique<SchedulerImpl>(options);
}

}  // namespace bdh::engine
