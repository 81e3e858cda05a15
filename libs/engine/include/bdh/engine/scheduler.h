// Decodes many generations at once on a few threads.
//
// Up to max_active generations take turns, one step each, so that all progress; those that decode with one
// model step together, so that its weights are read once for all. The next ones wait in a bounded queue. The
// queue goes by priority; among equals the tenant with the fewest active generations is next, and within a
// tenant the first come, so that one who asks for a hundred delays another who asks for one by one. The
// queue's places are not divided among tenants: it is full for all. What a generation produces depends on its
// request alone, not on what else runs. Its output waits in a bounded buffer: a reader that does not come for
// it stops its own generation, which gives its turn to another.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/engine/decode_model.h"
#include "bdh/engine/memory_budget.h"
#include "bdh/engine/sampler.h"
#include "bdh/tokenizer/tokenizer.h"

namespace bdh::engine {

struct GenerationRequest {
  std::shared_ptr<const DecodeModel> model;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;  // Makes text of what is generated.
  std::vector<int32_t> prompt;
  SamplingParams sampling = {};
  int64_t max_tokens = 16;
  std::vector<std::string> stops = {};  // Texts that end the generation; not returned.
  int priority = 0;                     // Higher leaves the queue first.
  std::string tenant = {};              // Who asks: equals share the places fairly.
};

enum class FinishReason { kStop, kLength };

// What was produced since the last one.
struct GenerationOutput {
  std::string text;  // Whole UTF-8 characters, possibly none.
  std::vector<int32_t> tokens;
  std::optional<FinishReason> finish;  // Set in the last one.
  int64_t completion_tokens = 0;       // Generated so far, the tokens of a stop text included.
};

// Told what happens, from decode threads: quick and thread-safe.
class SchedulerObserver {
 public:
  struct Summary {
    int64_t prompt_tokens = 0;      // Read so far.
    int64_t completion_tokens = 0;  // Produced so far.
    absl::Duration decoding;        // From the first token to the last one.
  };
  virtual ~SchedulerObserver() = default;
  virtual void FirstToken(absl::Duration since_submit) = 0;
  virtual void NextToken(absl::Duration since_previous) = 0;
  // A generation left, for whatever reason.
  virtual void Left(const Summary& summary) = 0;
};

// A generation as its reader holds it. Destroyed before its end, it is cancelled. One thread at a time. The
// scheduler outlives it.
class Generation {
 public:
  virtual ~Generation() = default;

  // Waits for output at most `timeout`; nullopt when there was none. After an output with `finish`, or an
  // error, there is no more to ask for. CancelledError: by Cancel or by the scheduler's end. InternalError:
  // the model computed numbers that are not finite.
  virtual absl::StatusOr<std::optional<GenerationOutput>> Next(absl::Duration timeout) = 0;

  // Frees its place within one step. Any thread.
  virtual void Cancel() = 0;
};

// Thread-safe.
class Scheduler {
 public:
  struct Options {
    int threads = 0;  // 0: one a core.
    int max_active = 8;
    int max_queue = 64;
    int prefill_chunk = 32;                 // Prompt tokens read in one turn.
    int max_unread_tokens = 256;            // A generation that is so far ahead of its reader waits for it.
    MemoryBudget* memory = nullptr;         // States are taken from it. Outlives the scheduler.
    SchedulerObserver* observer = nullptr;  // May be null. Outlives the scheduler.
  };
  struct Load {
    int active = 0;  // Admitted and not waiting for their readers.
    int parked = 0;  // Waiting for their readers.
    int queued = 0;
  };

  static std::unique_ptr<Scheduler> Create(const Options& options);
  virtual ~Scheduler() = default;  // Cancels what is left.

  // InvalidArgumentError: an empty prompt, a token outside the vocabulary, a bad parameter. OutOfRangeError:
  // longer than the model can decode. ResourceExhaustedError: the queue is full, or its state cannot fit.
  // UnavailableError: StopAdmitting was called.
  virtual absl::StatusOr<std::unique_ptr<Generation>> Submit(GenerationRequest request) = 0;

  virtual Load load() const = 0;

  // From now on Submit answers UnavailableError.
  virtual void StopAdmitting() = 0;
  // Waits until no generation is left; false when `timeout` is over.
  virtual bool AwaitIdle(absl::Duration timeout) = 0;
  virtual void CancelAll() = 0;
};

}  // namespace bdh::engine
