// Which tokens are in which batch.
//
// A batch is a pure function of (data set hash, split, order, seed, step, shape). Row r of step s is sample
// number s * batch_size + r, and an order says where a sample begins, without looking at the samples before
// it. So a stream may be opened at any step, any number of times, by any number of workers, and there is no
// state to save but the step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/corpus/dataset.h"

namespace bdh::corpus {

class DocumentOrder;
class Schedule;

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
    std::optional<Order> order = std::nullopt;  // Unset: the data set's own.
  };

  // Where a row begins.
  struct Place {
    size_t part = 0;       // Of the data set's parts().
    int64_t position = 0;  // In the part's split, as the order lays it out.
    int64_t epoch = 0;     // Of the part. 0 in an order that knows none.
    bool reset = false;    // ORDER_LANES: the row does not go on from the same row of the step before.
  };

  // InvalidArgumentError: the split is shorter than one row, or the order does not fit the data set.
  static absl::StatusOr<Sampler> Create(std::shared_ptr<const Dataset> dataset, const Options& options);

  int64_t columns() const { return options_.block_size + 1; }
  int64_t row_bytes() const { return columns() * dataset_->info().token_bytes; }
  const Dataset& dataset() const { return *dataset_; }
  Order order() const { return order_; }

  Place PlaceOf(int64_t step, int64_t row) const;

  // Waits until the rows are there, which matters for a data set that is still being tokenized.
  // CancelledError: `cancelled` said so, which is asked a few times a second.
  absl::Status Await(int64_t step, RowRange rows, const std::function<bool()>& cancelled) const;

  // Writes rows.size() * row_bytes() bytes: the tokens as stored, row after row.
  void Fill(int64_t step, RowRange rows, char* out) const;

  // A bit a token, rows one after the other, lowest bit first: a document begins here.
  std::string DocumentBegins(int64_t step, RowRange rows) const;

  // A byte a row, 1 where carried state must be cleared. Empty in other orders than kLanes.
  std::string RowResets(int64_t step, RowRange rows) const;

 private:
  // What the order needs to know of one part.
  struct Part {
    std::shared_ptr<const Dataset> dataset;
    uint64_t key = 0;                                          // Of data set, split and seed.
    std::shared_ptr<const DocumentOrder> documents = nullptr;  // kLength, kScore.
    int64_t lanes = 0;  // kLanes: rows of the batch that are this part's.
  };
  struct Lane {
    size_t part;
    int64_t lane;
  };

  Sampler(std::shared_ptr<const Dataset> dataset, const Options& options, Order order);
  absl::Status AddPart(std::shared_ptr<const Dataset> part);
  absl::Status LayOutLanes(const std::vector<double>& weights);
  Place PlaceInPart(size_t part, uint64_t index) const;
  Place PlaceInLane(int64_t step, int64_t row) const;
  int64_t Blocks(const Dataset& dataset) const;

  std::shared_ptr<const Dataset> dataset_;
  Options options_;
  Order order_;
  std::vector<Part> parts_;
  std::vector<Lane> lanes_;  // Of each row.
  std::shared_ptr<const Schedule> schedule_;
};

}  // namespace bdh::corpus
