#include "services/gateway/completion_job.h"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "services/gateway/sse.h"

namespace bdh::gateway {
namespace {

// Choices of one request that are generated at once: one request must not fill the queue of bdh-inference.
constexpr int kParallelChoices = 8;
// What a client may leave unread before its generations have to wait.
constexpr size_t kHighWaterBytes = 64 << 10;

}  // namespace

void CompletionJob::Start(std::shared_ptr<Exchange> exchange, CompletionRequest request,
                          const Options& options, InferenceClient& client, const CompletionMetrics& metrics) {
  const auto job = std::shared_ptr<CompletionJob>(
      new CompletionJob(std::move(exchange), std::move(request), options, client, metrics));
  job->exchange_->OnGone([job] { job->CancelAll(); });
  if (job->request_.stream) {
    job->exchange_->OnFlushed([job] { job->AskTheWaiting(); });
    job->ArmPing();
  }
  job->StartMore();
}

CompletionJob::CompletionJob(std::shared_ptr<Exchange> exchange, CompletionRequest request,
                             const Options& options, InferenceClient& client,
                             const CompletionMetrics& metrics)
    : exchange_(std::move(exchange)),
      request_(std::move(request)),
      options_(options),
      client_(client),
      metrics_(metrics),
      header_{.chat = request_.chat,
              .id = NewCompletionId(request_.chat),
              .created = absl::ToUnixSeconds(absl::Now()),
              .model = request_.model},
      chunks_(header_, request_.include_usage),
      running_(static_cast<size_t>(request_.choices())),
      last_write_(absl::Now()) {}

void CompletionJob::StartMore() {
  while (!over_ && started_ < request_.choices() && started_ - ended_ < kParallelChoices)
    StartChoice(started_++);
}

void CompletionJob::StartChoice(int index) {
  const auto self = shared_from_this();
  const telemetry::ScopedTrace trace(exchange_->request().trace);
  Running& running = running_[static_cast<size_t>(index)];
  running.generation = client_.Generate(
      request_.ForChoice(index),
      [exchange = exchange_](std::function<void()> work) { exchange->Post(std::move(work)); },
      {.on_message = [self, index](const v1::GenerateResponse& message) { self->OnMessage(index, message); },
       .on_done = [self, index](const absl::Status& status) { self->OnDone(index, status); }});
  running.generation->Next();
}

void CompletionJob::OnMessage(int index, const v1::GenerateResponse& message) {
  Running& running = running_[static_cast<size_t>(index)];
  if (header_.fingerprint.empty()) header_.fingerprint = message.fingerprint();
  if (!spoke_ && !message.text().empty()) {
    spoke_ = true;
    metrics_.first_text_seconds.Observe(absl::ToDoubleSeconds(absl::Now() - exchange_->request().arrival));
  }
  running.tokens += message.tokens_size();
  if (message.has_usage()) running.usage = message.usage();
  if (message.finish_reason() != v1::FINISH_REASON_UNSPECIFIED)
    running.choice.finish_reason = message.finish_reason();
  if (request_.stream) {
    BeginStream();
    FirstWords(index);
    if (!message.text().empty()) Write(chunks_.Text(index, message.text()));
  } else {
    running.choice.text += message.text();
  }
  running.heard = true;
  Ask(index);
}

void CompletionJob::Ask(int index) {
  Running& running = running_[static_cast<size_t>(index)];
  running.waiting = request_.stream && exchange_->pending_bytes() >= kHighWaterBytes;
  if (!running.waiting && running.generation != nullptr) running.generation->Next();
}

void CompletionJob::AskTheWaiting() {
  for (int i = 0; i < started_; ++i) {
    if (running_[static_cast<size_t>(i)].waiting) Ask(i);
  }
}

void CompletionJob::OnDone(int index, const absl::Status& status) {
  Running& running = running_[static_cast<size_t>(index)];
  running.generation.reset();
  running.waiting = false;
  if (over_) return;
  if (absl::IsDeadlineExceeded(status) && running.heard) {
    // Took longer than the gateway allows: ends with what it has.
    running.choice.finish_reason = v1::FINISH_REASON_LENGTH;
    if (running.usage.completion_tokens() == 0) running.usage.set_completion_tokens(running.tokens);
  } else if (!status.ok()) {
    return Fail(status);
  }
  if (running.choice.finish_reason == v1::FINISH_REASON_UNSPECIFIED) {
    return Fail(absl::InternalError("bdh-inference ended a generation without a finish_reason"));
  }
  metrics_.completion_tokens.Increment(static_cast<double>(running.usage.completion_tokens()));
  if (request_.stream) {
    BeginStream();
    Write(chunks_.Finish(index, running.choice.finish_reason));
  }
  ++ended_;
  if (ended_ == request_.choices()) return FinishAll();
  StartMore();
}

void CompletionJob::ArmPing() {
  const absl::Duration silent = absl::Now() - last_write_;
  exchange_->After(std::max(options_.ping - silent, absl::Milliseconds(1)),
                   [self = shared_from_this()] { self->Ping(); });
}

// Also ends the wait for the first text: a client may give up on headers that do not come.
void CompletionJob::Ping() {
  if (over_) return;
  if (absl::Now() - last_write_ >= options_.ping) {
    BeginStream();
    if (exchange_->pending_bytes() == 0) exchange_->Write(kSsePing);
    last_write_ = absl::Now();
  }
  ArmPing();
}

void CompletionJob::BeginStream() {
  if (std::exchange(streaming_, true)) return;
  exchange_->Begin(SseHead());
}

// What a choice begins with: in a chat the role, with echo the prompt.
void CompletionJob::FirstWords(int index) {
  if (running_[static_cast<size_t>(index)].heard) return;
  if (request_.chat) Write(chunks_.Role(index));
  if (request_.echo)
    Write(chunks_.Text(index, request_.prompts[static_cast<size_t>(index / request_.n)].text()));
}

void CompletionJob::Write(const std::string& json) {
  last_write_ = absl::Now();
  exchange_->Write(SseEvent(json));
}

void CompletionJob::Fail(const absl::Status& status) {
  const auto& id = exchange_->request().id;
  const telemetry::ScopedTrace trace(exchange_->request().trace);
  const ApiError error = FromInference(status, request_.model, request_.chat, id);
  if (error.status >= 500)
    BDH_LOG(WARNING) << "generation failed id=" << id << " status=" << status.ToString();
  CancelAll();
  if (!streaming_) return exchange_->Send(ErrorResponse(error));
  exchange_->Write(SseEvent(ErrorBody(error)));
  exchange_->Write(kSseDone);
  exchange_->End();
}

void CompletionJob::FinishAll() {
  over_ = true;
  const v1::Usage usage = TotalUsage();
  metrics_.prompt_tokens.Increment(static_cast<double>(usage.prompt_tokens()));
  if (request_.stream) {
    if (request_.include_usage) Write(chunks_.Usage(usage));
    exchange_->Write(kSseDone);
    return exchange_->End();
  }
  std::vector<Choice> choices;
  for (size_t i = 0; i < running_.size(); ++i) {
    choices.push_back(std::move(running_[i].choice));
    if (request_.echo)
      choices.back().text.insert(0, request_.prompts[i / static_cast<size_t>(request_.n)].text());
  }
  exchange_->Send({.body = CompletionBody(header_, choices, usage)});
}

void CompletionJob::CancelAll() {
  if (std::exchange(over_, true)) return;
  for (Running& running : running_) {
    if (running.generation == nullptr) continue;
    metrics_.cancelled.Increment();
    std::exchange(running.generation, nullptr)->Cancel();
  }
}

// A prompt counts once, however many choices it got.
v1::Usage CompletionJob::TotalUsage() const {
  v1::Usage total;
  for (size_t i = 0; i < running_.size(); ++i) {
    const v1::Usage& usage = running_[i].usage;
    total.set_completion_tokens(total.completion_tokens() + usage.completion_tokens());
    if (i % static_cast<size_t>(request_.n) != 0) continue;
    total.set_prompt_tokens(total.prompt_tokens() + usage.prompt_tokens());
    total.set_cached_tokens(total.cached_tokens() + usage.cached_tokens());
  }
  return total;
}

}  // namespace bdh::gateway
