#include "services/trainer_worker/batch_stream.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/telemetry/trace.h"
#include "services/trainer_worker/backoff.h"

namespace bdh::trainer_worker {
namespace {

// Of one stream. When it is over the next one is opened, as after any other break.
constexpr absl::Duration kStreamDeadline = absl::Hours(1);
constexpr absl::Duration kPoll = absl::Milliseconds(100);

template <class Token>
void Append(const std::string& bytes, std::vector<int64_t>& tokens) {
  for (size_t at = 0; at < bytes.size(); at += sizeof(Token)) {
    Token token;
    std::memcpy(&token, bytes.data() + at, sizeof(Token));
    tokens.push_back(static_cast<int64_t>(token));
  }
}

}  // namespace

absl::Status AppendRows(const v1::Batch& message, training::Batch& batch) {
  const int64_t rows = message.rows(), columns = message.columns(), width = message.token_bytes();
  const bool known_width = width == 1 || width == 2 || width == 4;
  if (!known_width || rows < 1 || columns < 1 || message.first_row() != batch.rows ||
      (batch.rows > 0 && columns != batch.columns) ||
      rows * columns * width != static_cast<int64_t>(message.tokens().size())) {
    return absl::DataLossError(
        absl::StrFormat("bdh-data-loader sent a batch that contradicts itself: step %d, %d rows of %d tokens "
                        "of %d bytes from row %d, %d bytes",
                        message.step(), rows, columns, width, message.first_row(), message.tokens().size()));
  }
  batch.rows += rows;
  batch.columns = columns;
  if (width == 1) Append<uint8_t>(message.tokens(), batch.tokens);
  if (width == 2) Append<uint16_t>(message.tokens(), batch.tokens);
  if (width == 4) Append<uint32_t>(message.tokens(), batch.tokens);
  return absl::OkStatus();
}

BatchStream::BatchStream(const mesh::Peer& loader, Options options)
    : loader_(loader),
      options_(std::move(options)),
      stub_(v1::DataLoaderService::NewStub(loader.channel())) {}

BatchStream::~BatchStream() = default;

void BatchStream::Open(int64_t step) {
  reader_ = std::jthread();  // Stops and joins the one before.
  {
    MutexLock lock(mutex_);
    ready_.clear();
  }
  reader_ = std::jthread([this, step, trace = telemetry::Trace::Current()](std::stop_token stop) {
    const telemetry::ScopedTrace scope(trace);
    ReadAhead(step, std::move(stop));
  });
}

absl::StatusOr<training::Batch> BatchStream::Read(int64_t step, std::stop_token stop) {
  if (step != next_step_) Open(step);
  next_step_ = -1;  // Until the batch is there; after an error the next read opens anew.
  const absl::Time deadline = absl::Now() + options_.patience + absl::Seconds(10);
  MutexLock lock(mutex_);
  while (ready_.empty()) {
    if (stop.stop_requested()) return absl::CancelledError("asked to stop");
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrFormat("%s at %s sends nothing", loader_.daemon(), loader_.address()));
    }
    changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(kPoll));
  }
  Item item = std::move(ready_.front());
  ready_.pop_front();
  changed_.NotifyAll();
  if (!item.status.ok()) return item.status;
  next_step_ = step + 1;
  return std::move(item.batch);
}

bool BatchStream::Push(Item item, std::stop_token stop) {
  MutexLock lock(mutex_);
  while (ready_.size() >= options_.prefetch) {
    if (stop.stop_requested()) return false;
    changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(kPoll));
  }
  ready_.push_back(std::move(item));
  changed_.NotifyAll();
  return !stop.stop_requested();
}

absl::Status BatchStream::ReadStream(int64_t& step, std::stop_token stop) {
  v1::StreamBatchesRequest request = options_.request;
  request.set_start_step(step);
  if (request.step_count() > 0) request.set_step_count(request.step_count() - step);
  const auto context = loader_.NewContext(kStreamDeadline, /*wait_for_ready=*/false);
  const std::stop_callback cancel(stop, [&] { context->TryCancel(); });
  const auto reader = stub_->StreamBatches(context.get(), request);
  v1::Batch message;
  training::Batch batch;
  absl::Status broken;
  while (broken.ok() && reader->Read(&message)) {
    if (message.step() != step) {
      broken = absl::DataLossError(
          absl::StrFormat("bdh-data-loader sent step %d; the next one is %d", message.step(), step));
      break;
    }
    broken = AppendRows(message, batch);
    if (!broken.ok() || !message.last()) continue;
    if (!Push({.status = absl::OkStatus(), .batch = std::move(batch)}, stop)) break;
    batch = training::Batch();
    ++step;
  }
  if (!broken.ok() || stop.stop_requested()) context->TryCancel();
  const absl::Status outcome = loader_.Outcome(reader->Finish());
  return broken.ok() ? outcome : broken;
}

void BatchStream::ReadAhead(int64_t step, std::stop_token stop) {
  const int64_t end = options_.request.step_count() > 0 ? options_.request.step_count() : INT64_MAX;
  Backoff backoff(options_.patience);
  while (step < end && !stop.stop_requested()) {
    const int64_t before = step;
    absl::Status status = ReadStream(step, stop);
    if (step >= end || stop.stop_requested()) return;
    if (status.ok()) status = absl::UnavailableError("bdh-data-loader ended the stream early");
    if (step > before) backoff.Reset();
    BDH_LOG(WARNING) << "batch stream broke step=" << step << " error=" << status.message();
    if (!IsTransient(status) || !backoff.Wait(stop)) {
      Push({.status = status}, stop);
      return;
    }
  }
}

}  // namespace bdh::trainer_worker
