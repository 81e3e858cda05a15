// How a model is trained: the recipe, its learning-rate schedule, and what it will cost in memory.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "bdh/spec/model_config.h"

namespace bdh::training {

enum class Schedule { kConstant, kLinear, kCosine };

// The defaults are the reference recipe.
struct Options {
  int64_t max_steps = 3000;
  int64_t batch_size = 32;   // Sequences.
  int64_t block_size = 512;  // Tokens of a sequence.
  double learning_rate = 1e-3;
  Schedule schedule = Schedule::kConstant;
  int64_t warmup_steps = 0;
  double min_learning_rate = 0;  // Where linear and cosine end.
  double weight_decay = 0.1;     // Decoupled, on every parameter.
  double beta1 = 0.9;
  double beta2 = 0.999;
  double adam_eps = 1e-8;
  double grad_clip = 0;       // Largest norm of all gradients together; 0: not clipped.
  int64_t eval_interval = 0;  // Steps; 0: never.
  int64_t eval_batches = 8;
  int64_t checkpoint_interval = 0;  // Steps; 0: only the last.
  int64_t log_interval = 10;        // Steps.
  uint64_t seed = 1337;             // Of initial weights and dropout.
  int threads = 0;                  // Of the math library; 0: one a core.
};

// InvalidArgumentError begins with the field's name.
absl::Status Validate(const Options& options);

// The rate of step `step` (counted from 0). Warm-up rises linearly and reaches learning_rate in the first
// step after it: step s of it has learning_rate * (s + 1) / (warmup_steps + 1). Linear and cosine then fall
// to min_learning_rate, which the last step has.
double LearningRate(const Options& options, int64_t step);

// Threads that train: options.threads, or one a core.
int ThreadCount(const Options& options);

// Into how many parts each batch is split, one a thread, as far as it has rows. Each part has gradients of
// its own; where those would be large there are fewer parts, and the threads left over help inside
// operations. Losses depend on this number in their last bits, and so on the number of threads.
int WorkerCount(const spec::ModelConfig& model, const Options& options);

// Bytes, as doubles: a careless configuration may ask for more than fits an integer.
struct MemoryEstimate {
  double model_bytes = 0;       // Weights, every worker's gradients and the optimiser's two moments.
  double activation_bytes = 0;  // What the backward pass keeps, and the pass's own buffers. Rough.
  double total() const { return model_bytes + activation_bytes; }
};
MemoryEstimate EstimateMemory(const spec::ModelConfig& model, const Options& options);

}  // namespace bdh::training
