// One generation's arithmetic: prompt in, tokens and text out, a turn at a time. Knows no thread and no
// queue.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "bdh/engine/scheduler.h"
#include "bdh/engine/text_assembler.h"

namespace bdh::engine {

// One thread at a time.
class DecodeTask {
 public:
  explicit DecodeTask(GenerationRequest request);

  const GenerationRequest& request() const { return request_; }

  // What one turn brought.
  struct Turn {
    absl::Status status;
    TextAssembler::Piece piece;
    std::optional<FinishReason> finish;
    bool produced = false;
  };

  // Reads the next `prefill_chunk` tokens of the prompt, or decodes one token.
  Turn Take(int prefill_chunk, const std::stop_token& stop);

  // The prompt is read: the next turn is a step, which may be one of a batch. Then Take is NextStep, a step
  // of the model, and Finish.
  bool wants_step() const { return state_ != nullptr && read_ == request_.prompt.size(); }
  DecodeModel::StepInput NextStep() { return {state_.get(), last_, logits_}; }
  Turn Finish(absl::Status stepped);

  // Memory of its state; the task can only be destroyed then.
  void FreeState() { state_.reset(); }

  int64_t prompt_tokens_read() const { return static_cast<int64_t>(read_); }
  int64_t completion_tokens() const { return produced_; }

 private:
  absl::Status Compute(int prefill_chunk, const std::stop_token& stop);
  absl::Status Produce(Turn& turn);

  const GenerationRequest request_;
  const size_t choices_;  // Logits of tokens that the tokenizer knows.
  Sampler sampler_;
  TextAssembler text_;
  std::unique_ptr<DecodeState> state_;
  std::vector<float> logits_;
  size_t read_ = 0;
  int64_t produced_ = 0;
  int32_t last_ = 0;
};

}  // namespace bdh::engine
