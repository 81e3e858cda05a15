// What the store keeps: checkpoints, which are named sets of tensors, and tags, which are movable names for
// them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace bdh::store {

// Element type of a tensor; the numbers are those of bdh.v1.DType.
enum class DType : int { kF32 = 1, kBf16, kF16, kF64, kI64, kI32, kI16, kI8, kU8, kBool };

// Bytes of one element; 0 for a number that is no DType.
int ElementBytes(DType dtype);

struct Tensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape = {};  // Empty: a scalar.
  int64_t size_bytes = 0;           // Product of `shape` times the size of an element.
};

struct Checkpoint {
  std::string name;  // runs/{run}/steps/{step}
  std::vector<Tensor> tensors = {};
  // What the writer says about the content: step, losses, cursor, ... Bytes the store keeps but does not
  // read.
  std::string facts = {};
  // What the writer says about itself: host, version. Kept, but no part of the digest: the same content from
  // another host is the same checkpoint.
  std::string provenance = {};
  // Name of the checkpoint this one continues, or empty: chunks may be kept as the difference from it.
  std::string parent = {};
  // What retention's keep_best goes by; less is better.
  std::optional<double> loss = {};

  // Set by the store.
  absl::Time create_time = {};
  int64_t size_bytes = 0;
  std::string digest = {};             // SHA-256 over tensors and facts in lower-case hex.
  std::vector<std::string> tags = {};  // That point here, sorted.
};

struct Tag {
  std::string name;
  std::string checkpoint;
  absl::Time update_time;
};

// "runs/poem/steps/500"
std::string CheckpointName(std::string_view run, int64_t step);

// Whether `reference` names a checkpoint, not a tag.
bool IsCheckpointName(std::string_view reference);

// InvalidArgumentError says what a name must look like.
absl::Status CheckCheckpointName(std::string_view name);
absl::Status CheckTagName(std::string_view name);

}  // namespace bdh::store
