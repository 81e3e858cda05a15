// Which tokens are in which batch.
//
// A batch is a pure function of (data set hash, split, seed, step, shape). Row r of step s is sample number
// s * batch_size + r; where a sample begins in its split is a hash of its number. So a stream may be opened
// at any step, any number of times, by any number of workers, and there is no state to save but the step.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/corpus/dataset.h"

namespace bdh::corpus {

// Rows [begin, end) of a batch.
struct RowRange {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// The rows of worker `rank` of `world_size`: slices are disjoint and together the batch.
RowRange SliceOf(int64_t batch_size, int64_t rank, int64_t world_size);

// Immutable, so any thread may use it.
class Sampler {
 public:
  struct Options {
    Split split = Split::kTrain;
    uint64_t seed = 0;
    int64_t batch_size = 1;
    // A row is block_size + 1 tokens: inputs and, one further, targets.
    int64_t block_size = 2;
  };

  // InvalidArgumentError: the split is shorter than one row.
  static absl::StatusOr<Sampler> Create(std::shared_ptr<const Dataset> dataset, const Options& options);

  int64_t columns() const { return options_.block_size + 1; }
  int64_t row_bytes() const { return columns() * dataset_->info().token_bytes; }
  const Dataset& dataset() const { return *dataset_; }

  // Where the row begins in its split.
  int64_t RowPosition(int64_t step, int64_t row) const;

  // Writes rows.size() * row_bytes() bytes: the tokens as stored, row after row.
  void Fill(int64_t step, RowRange rows, char* out) const;

 private:
  Sampler(std::shared_ptr<const Dataset> dataset, const Options& options);

  std::shared_ptr<const Dataset> dataset_;
  Options options_;
  uint64_t key_;        // Of data set, split and seed.
  uint64_t positions_;  // Where a row may begin: 0 to positions_ - 1.
};

}  // namespace bdh::corpus
