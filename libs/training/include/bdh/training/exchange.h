// What the trainer asks of the world: batches, a place for checkpoints, and somebody to tell. The library
// states these interfaces; a service, a test or a tool implements them. All are called by the thread that
// trains.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::training {

// `rows` sequences of `columns` token ids, row after row.
struct Batch {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<int64_t> tokens = {};
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // The batch of `step`: batch_size sequences of block_size + 1 tokens. The same step always gives the same
  // batch. Steps are usually asked for in order; any other step is a new beginning there. Waits for data;
  // CancelledError once `stop` is requested.
  virtual absl::StatusOr<Batch> Read(int64_t step, std::stop_token stop) = 0;
};

enum class DType { kF32, kF64, kI64, kU8 };
int64_t SizeOf(DType dtype);

// A tensor of a checkpoint: what it is, and where its bytes are in memory.
template <class Byte>
struct BasicTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape = {};
  std::span<Byte> bytes = {};
};
using Tensor = BasicTensor<const std::byte>;
using MutableTensor = BasicTensor<std::byte>;

// What a checkpoint says about itself.
struct CheckpointFacts {
  int64_t step = 0;  // Steps done.
  int64_t tokens_seen = 0;
  std::optional<double> train_loss = {};
  // Of exactly these weights; unset when the run has no validation or was stopped.
  std::optional<double> validation_loss = {};
  // The best one of the run so far. A run without validation gets better with every checkpoint.
  bool best = false;
};

class CheckpointSink {
 public:
  virtual ~CheckpointSink() = default;
  // Stores everything; OK means it is safe. `tensors` point into the live model: read them before returning.
  virtual absl::Status Save(const CheckpointFacts& facts, std::span<const Tensor> tensors) = 0;
};

class CheckpointSource {
 public:
  virtual ~CheckpointSource() = default;
  // Fills every one of `tensors`, or fails. See CheckFits.
  virtual absl::StatusOr<CheckpointFacts> Load(std::span<const MutableTensor> tensors) = 0;
};

// Whether `stored` (bytes not looked at) holds each of `wanted` in the same type and shape.
// InvalidArgumentError names the first that does not.
absl::Status CheckFits(std::span<const MutableTensor> wanted, std::span<const Tensor> stored);

struct Progress {
  int64_t step = 0;  // Steps done.
  int64_t max_steps = 0;
  double train_loss = 0;  // Mean since the report before.
  std::optional<double> validation_loss = {};
  std::optional<double> best_validation_loss = {};
  double learning_rate = 0;
  double gradient_norm = 0;  // Before clipping.
  int64_t tokens_seen = 0;
  double tokens_per_second = 0;  // Over the recent steps, without validation and checkpoints.
  double seconds_left = 0;
};

class Observer {
 public:
  virtual ~Observer() = default;
  // After every step. `report` is set every log_interval steps, after a validation and at the end.
  virtual void OnStep(const Progress& progress, bool report) = 0;
};

}  // namespace bdh::training
