// What decodes: a model and the state of one sequence, as schedulers, samplers and sessions see them.
//
// Nothing here says how a model remembers. BDH keeps a matrix whose size does not depend on the length; a
// transformer would keep keys and values that grow with it. What differs (memory, how far back a state can be
// cut, how long it may get) is asked for, not assumed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::engine {

// What a model remembers of the tokens it was fed. One thread at a time; different states at once are fine.
// A state belongs to the model that made it, which outlives it.
class DecodeState {
 public:
  virtual ~DecodeState() = default;

  // Tokens fed so far; the next one stands at this position.
  virtual int64_t position() const = 0;

  // Memory it holds now.
  virtual int64_t memory_bytes() const = 0;

  // Another state that continues from here on its own. It may share memory with this one until the two go
  // different ways; the caller has set aside DecodeModel::StateBytes for it. ResourceExhaustedError: no
  // memory.
  virtual absl::StatusOr<std::unique_ptr<DecodeState>> Fork() const = 0;

  // Forgets all tokens from `position` on. A cut further back than the state remembers is made good by
  // computing again what is left, before the next token. InvalidArgumentError: it has not come that far.
  virtual absl::Status Truncate(int64_t position) = 0;

  // All of it as bytes, for DecodeModel::Restore. UnimplementedError: states of this model cannot be saved.
  virtual absl::StatusOr<std::string> Snapshot() const {
    return absl::UnimplementedError("states of this model cannot be saved");
  }

  // Nobody will decode from it for a while: it may give memory back, at the price of time when it goes on.
  virtual void Rest() {}
};

// Immutable: any thread may use it.
class DecodeModel {
 public:
  // One sequence's share of a batched step.
  struct StepInput {
    DecodeState* state;
    int32_t token;            // In [0, vocab_size).
    std::span<float> logits;  // vocab_size numbers, or empty when nobody wants them.
  };

  virtual ~DecodeModel() = default;

  virtual int32_t vocab_size() const = 0;
  virtual int64_t parameter_count() const = 0;
  // Memory the weights take.
  virtual int64_t weight_bytes() const = 0;
  // Of everything that decides the logits, in lower-case hex.
  virtual const std::string& fingerprint() const = 0;
  // The longest sequence it can decode.
  virtual int64_t max_tokens() const = 0;

  // The most memory a state takes while it holds at most `tokens` tokens: what to set aside before NewState.
  virtual int64_t StateBytes(int64_t tokens) const = 0;

  // An empty state. ResourceExhaustedError: no memory.
  virtual absl::StatusOr<std::unique_ptr<DecodeState>> NewState() const = 0;

  // The state that Snapshot saved, which goes on with the bits of the one it was saved from. The caller has
  // set aside StateBytes for it. InvalidArgumentError: no snapshot, or one of another model or of other
  // numerics, by the field that differs; DataLossError: damaged; ResourceExhaustedError: no memory.
  virtual absl::StatusOr<std::unique_ptr<DecodeState>> Restore(std::string_view /*snapshot*/) const {
    return absl::UnimplementedError("states of this model cannot be saved");
  }

  // Feeds `tokens` in order; `logits` becomes those after the last one, unless it is empty. Asks `stop`
  // between small pieces: CancelledError, and the state stands behind the tokens it has taken. How tokens are
  // cut into calls does not change a bit of any logits. InvalidArgumentError: a token outside the vocabulary,
  // or no tokens; OutOfRangeError: beyond max_tokens. Then the state is unchanged.
  virtual absl::Status Prefill(DecodeState& state, std::span<const int32_t> tokens, std::span<float> logits,
                               const std::stop_token& stop) const = 0;

  // Feeds one token to each of several different states of this model. What else is in the batch does not
  // change a bit of any logits. Errors as in Prefill, and then no state has changed.
  virtual absl::Status Step(std::span<const StepInput> batch) const = 0;

  // A batch of one.
  absl::Status StepOne(DecodeState& state, int32_t token, std::span<float> logits) const {
    const StepInput input{&state, token, logits};
    return Step({&input, 1});
  }
};

}  // namespace bdh::engine
