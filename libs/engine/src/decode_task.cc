#include "decode_task.h"

#include <algorithm>

#include "bdh/base/status_macros.h"

namespace bdh::engine {

DecodeTask::DecodeTask(GenerationRequest request)
    : request_(std::move(request)),
      choices_(std::min(request_.model->vocab_size(), request_.tokenizer->vocab_size())),
      sampler_(request_.sampling),
      text_(request_.tokenizer, request_.stops),
      logits_(request_.model->vocab_size()) {}

DecodeTask::Turn DecodeTask::Take(int prefill_chunk, const std::stop_token& stop) {
  return Finish(Compute(prefill_chunk, stop));
}

DecodeTask::Turn DecodeTask::Finish(absl::Status stepped) {
  Turn turn;
  turn.status = std::move(stepped);
  if (turn.status.ok() && read_ == request_.prompt.size()) turn.status = Produce(turn);
  return turn;
}

// Brings logits_ up to date, or reads a part of the prompt.
absl::Status DecodeTask::Compute(int prefill_chunk, const std::stop_token& stop) {
  if (stop.stop_requested()) return absl::CancelledError("the generation was cancelled");
  if (state_ == nullptr) {
    BDH_ASSIGN_OR_RETURN(state_, request_.model->NewState());
  }
  const size_t left = request_.prompt.size() - read_;
  if (left == 0) return request_.model->StepOne(*state_, last_, logits_);
  const size_t count = std::min<size_t>(left, prefill_chunk);
  const std::span<float> wanted = count == left ? std::span<float>(logits_) : std::span<float>();
  BDH_RETURN_IF_ERROR(
      request_.model->Prefill(*state_, std::span(request_.prompt).subspan(read_, count), wanted, stop));
  read_ += count;
  return absl::OkStatus();
}

absl::Status DecodeTask::Produce(Turn& turn) {
  bool ends_text = false, stopped = false;
  if (produced_ < request_.max_tokens) {
    BDH_ASSIGN_OR_RETURN(last_, sampler_.Next(std::span(logits_).first(choices_)));
    ++produced_;
    turn.produced = true;
    ends_text = request_.tokenizer->end_of_text() == last_;
    if (!ends_text) {
      BDH_ASSIGN_OR_RETURN(stopped, text_.Push(last_, turn.piece));
    }
  }
  const bool full = produced_ == request_.max_tokens;
  if (!stopped && (ends_text || full)) stopped = text_.Finish(turn.piece) || ends_text;
  if (stopped) turn.finish = FinishReason::kStop;
  if (!stopped && full) turn.finish = FinishReason::kLength;
  return absl::OkStatus();
}

}  // namespace bdh::engine
