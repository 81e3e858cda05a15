#include "bdh/training/options.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_format.h"
#include "bdh/base/cores.h"
#include "bdh/base/status_macros.h"
#include "bdh/training/machine.h"

namespace bdh::training {
namespace {

// Where a gradient's mean square underflows float32 to 0, AdamW divides its mean by eps alone: with any
// smaller one, such a gradient would move a weight further than the learning rate says, and 0 by 0 is not a
// number.
constexpr double kLeastAdamEps = 1e-16;

absl::Status WantAtLeast(const char* field, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s is %d; want at least %d", field, value, least));
}

absl::Status WantWithin(const char* field, double value, double least, double most) {
  if (value >= least && value <= most) return absl::OkStatus();  // Not for NaN.
  return absl::InvalidArgumentError(absl::StrFormat("%s is %g; want %g to %g", field, value, least, most));
}

absl::Status ValidateLengths(const Options& options) {
  BDH_RETURN_IF_ERROR(WantAtLeast("max_steps", options.max_steps, 1));
  BDH_RETURN_IF_ERROR(WantAtLeast("batch_size", options.batch_size, 1));
  BDH_RETURN_IF_ERROR(WantAtLeast("block_size", options.block_size, 2));
  BDH_RETURN_IF_ERROR(WantAtLeast("warmup_steps", options.warmup_steps, 0));
  BDH_RETURN_IF_ERROR(WantAtLeast("eval_interval", options.eval_interval, 0));
  BDH_RETURN_IF_ERROR(WantAtLeast("eval_batches", options.eval_batches, 1));
  BDH_RETURN_IF_ERROR(WantAtLeast("checkpoint_interval", options.checkpoint_interval, 0));
  BDH_RETURN_IF_ERROR(WantAtLeast("log_interval", options.log_interval, 1));
  return WantAtLeast("threads", options.threads, 0);
}

}  // namespace

absl::Status Validate(const Options& options) {
  BDH_RETURN_IF_ERROR(ValidateLengths(options));
  BDH_RETURN_IF_ERROR(WantWithin("learning_rate", options.learning_rate, 0, 10));
  BDH_RETURN_IF_ERROR(WantWithin("weight_decay", options.weight_decay, 0, 10));
  BDH_RETURN_IF_ERROR(WantWithin("beta1", options.beta1, 0, 0.999999));
  BDH_RETURN_IF_ERROR(WantWithin("beta2", options.beta2, 0, 0.9999999));
  BDH_RETURN_IF_ERROR(WantWithin("adam_eps", options.adam_eps, kLeastAdamEps, 1));
  BDH_RETURN_IF_ERROR(WantWithin("grad_clip", options.grad_clip, 0, 1e30));
  if (options.schedule == Schedule::kConstant) return absl::OkStatus();
  if (options.warmup_steps >= options.max_steps) {
    return absl::InvalidArgumentError(
        absl::StrFormat("warmup_steps is %d and max_steps only %d; warm-up must end before training does",
                        options.warmup_steps, options.max_steps));
  }
  if (!(options.min_learning_rate >= 0 && options.min_learning_rate <= options.learning_rate)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("min_learning_rate is %g; want 0 to learning_rate, which is %g",
                        options.min_learning_rate, options.learning_rate));
  }
  return absl::OkStatus();
}

double LearningRate(const Options& options, int64_t step) {
  const double peak = options.learning_rate;
  if (step < options.warmup_steps) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps + 1);
  }
  if (options.schedule == Schedule::kConstant) return peak;
  const int64_t falling_steps = options.max_steps - 1 - options.warmup_steps;
  const double done = falling_steps <= 0 ? 1.0
                                         : std::min(1.0, static_cast<double>(step - options.warmup_steps) /
                                                             static_cast<double>(falling_steps));
  const double share_left =
      options.schedule == Schedule::kLinear ? 1.0 - done : 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return options.min_learning_rate + (peak - options.min_learning_rate) * share_left;
}

int ThreadCount(const Options& options) {
  return bdh::ThreadCount(options.threads);
}

int WorkerCount(const spec::ModelConfig& model, const Options& options) {
  constexpr int64_t kGradientsMax = int64_t{1} << 30;  // Numbers, of all workers together: 4 GiB.
  const int64_t affordable = std::max<int64_t>(1, kGradientsMax / spec::ParameterCount(model));
  return static_cast<int>(std::min({int64_t{ThreadCount(options)}, options.batch_size, affordable}));
}

MemoryEstimate EstimateMemory(const spec::ModelConfig& model, const Options& options) {
  constexpr double kFloat = 4;
  // How many tensors of [B, T, neurons] and of [B, T, heads * n_embd] a pass keeps for its backward pass, its
  // own buffers included: fitted to the memory that models of 0.2M to 0.9M parameters were seen to take.
  constexpr double kKeptPerNeuron = 6;
  constexpr double kKeptPerWidth = 6;
  const double neurons = static_cast<double>(model.neurons());
  const double width = model.n_embd;
  const double heads = model.n_head;
  const double block = static_cast<double>(options.block_size);
  const double tokens = static_cast<double>(options.batch_size) * block;
  const double per_pass =
      tokens * (kKeptPerNeuron * neurons + kKeptPerWidth * heads * width + 2 * heads * block);
  MemoryEstimate estimate;
  const double copies = 3.0 + WorkerCount(model, options);
  estimate.model_bytes = copies * kFloat * static_cast<double>(spec::ParameterCount(model));
  estimate.activation_bytes = kFloat * (model.n_layer * per_pass + 3 * tokens * model.vocab_size);
  return estimate;
}

}  // namespace bdh::training
