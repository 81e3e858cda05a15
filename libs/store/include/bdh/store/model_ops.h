// Operations on the models in a store: averages and differences, computed tensor by tensor, a MiB of each
// checkpoint in memory; and copies to another store, sending only what that lacks.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/store/store.h"

namespace bdh::store {

struct Progress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
};
// Called now and then. False breaks off with CancelledError.
using OnProgress = std::function<bool(const Progress&)>;

struct AverageOptions {
  std::vector<std::string> references;  // 2 to 64 checkpoint names or tags.
  std::vector<double> weights = {};     // One a reference, divided by their sum. Empty: all alike.
  std::optional<double> decay = {};     // An exponential moving average in the order given. Not with weights.
  std::vector<std::string> prefixes_excluded = {};  // Tensors that the result goes without.
};

// Names and describes the result; its tensors are filled in. Given the references, resolved, in their order.
using DescribeAverage = std::function<absl::StatusOr<Checkpoint>(const std::vector<Checkpoint>&)>;

// Averages checkpoints into a new one. Sums are kept in double precision and rounded once; a tensor whose
// chunks are all the same is taken as it is. NotFoundError: nothing has one of the names.
// InvalidArgumentError: tensors that differ in name, shape or type, or are of integers and differ in value
// (the message names one); weights or a decay that are none. And the errors of Store::Begin and
// Upload::Commit.
absl::StatusOr<Upload::Result> Average(Store& store, const AverageOptions& options,
                                       const DescribeAverage& describe, const OnProgress& progress = {});

struct TensorDiff {
  std::string tensor;
  std::optional<Tensor> left, right;
  bool equal = false;  // Of the same chunks: not read.
  // Norms of left and of right - left, and the largest single difference. 0 where shapes differ.
  double left_norm = 0;
  double difference_norm = 0;
  double difference_max = 0;
};

// Compares tensor by tensor; of both, sorted by name. NotFoundError: nothing has one of the names.
absl::StatusOr<std::vector<TensorDiff>> Diff(Store& store, std::string_view left, std::string_view right,
                                             const OnProgress& progress = {});

// Another store, as a copy needs it: FindMissingChunks, PutChunks and CommitUpload of
// bdh.v1.CheckpointAdminService.
class CopyTarget {
 public:
  virtual ~CopyTarget() = default;
  struct Missing {
    std::vector<int> indexes;  // Into `digests`, ascending.
    int64_t chunk_bytes = 0;   // Size that store cuts tensors into.
  };
  virtual absl::StatusOr<Missing> FindMissing(const std::string& upload,
                                              const std::vector<std::string>& digests) = 0;
  struct Chunk {
    std::string digest;
    std::string bytes;
  };
  // Sends chunks until `next` has no more.
  using NextChunk = std::function<absl::StatusOr<std::optional<Chunk>>()>;
  virtual absl::Status PutChunks(const std::string& upload, const NextChunk& next) = 0;
  virtual absl::Status Commit(const std::string& upload, const Checkpoint& checkpoint,
                              const std::vector<TensorDigests>& chunks) = 0;
};

struct CopyProgress {
  int64_t bytes_done = 0;  // With those skipped.
  int64_t bytes_total = 0;
  int64_t bytes_skipped = 0;  // The other store had already.
};
using OnCopyProgress = std::function<bool(const CopyProgress&)>;

// Copies checkpoints one after another. A copy that broke off goes on where it was when begun again.
absl::StatusOr<CopyProgress> Copy(Store& store, const std::vector<std::string>& references,
                                  CopyTarget& target, const OnCopyProgress& progress = {});

// Where right bytes of a tensor come from: another store, or files.
class RepairSource {
 public:
  virtual ~RepairSource() = default;
  // Passes the tensor's bytes to `take`, in order and whole, until that answers false. NotFoundError: it has
  // no such checkpoint or tensor.
  using Take = std::function<bool(std::string_view bytes)>;
  virtual absl::Status ReadTensor(const std::string& checkpoint, const std::string& tensor,
                                  const Take& take) = 0;
};

struct RepairProgress {
  int64_t damaged_chunks = 0;
  int64_t repaired_chunks = 0;
};

// Replaces what is known to be damaged by the bytes that `source` has in the same places, if those have the
// right digests. NotFoundError: something is damaged and the source has none of it.
absl::StatusOr<RepairProgress> Repair(Store& store, RepairSource& source,
                                      const std::function<bool(const RepairProgress&)>& progress = {});

}  // namespace bdh::store
