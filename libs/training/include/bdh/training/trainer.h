// Trains one BDH: steps, validation, checkpoints, resume. No torch in this header.
#pragma once

#include <memory>
#include <stop_token>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/spec/model_config.h"
#include "bdh/training/exchange.h"
#include "bdh/training/options.h"

namespace bdh::training {

// A model in training. One at a time in a process, because LibTorch's generator and its threads are the
// process's; all calls from one thread.
//
// With equal model, options, batches and threads two trainers give the same losses to the bit, also when one
// of them was saved, restored elsewhere and went on there.
class Trainer {
 public:
  enum class Outcome { kFinished, kStopped };
  struct World {
    BatchSource& train;
    BatchSource* validation;  // Null: no validation. Read at steps 0 .. eval_batches - 1, each time.
    CheckpointSink& checkpoints;
    Observer& observer;
  };

  // A model with fresh weights drawn from options.seed. InvalidArgumentError: bad config or options.
  // ResourceExhaustedError: the memory is not there.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const spec::ModelConfig& model,
                                                         const Options& options);
  ~Trainer();

  // Continues from a checkpoint. After an error the trainer is not to be used. OutOfRangeError: it holds
  // numbers that are not finite.
  absl::Status Restore(CheckpointSource& source);

  // Trains up to max_steps. When `stop` is requested it finishes its step, saves and returns kStopped.
  // Errors of the world come back annotated, and the state is saved before if it can be. InternalError: the
  // loss, a gradient or a weight is not a finite number; then nothing more is saved.
  absl::StatusOr<Outcome> Run(const World& world, std::stop_token stop);

  int64_t step() const;
  const Progress& progress() const;

 private:
  class Impl;
  explicit Trainer(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace bdh::training
