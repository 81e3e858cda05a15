#include "bdh/store/model_ops.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bdh/base/status_macros.h"
#include "numbers.h"
#include "tensor_stream.h"

namespace bdh::store {
namespace {

constexpr size_t kMinReferences = 2, kMaxReferences = 64;
constexpr size_t kPieceBytes = 1 << 20;  // A multiple of every element.

// A checkpoint with its tensors by name, and what they are made of.
struct Source {
  Store::ChunkList list;
  std::map<std::string, size_t, std::less<>> by_name;  // Indexes into list.chunks.

  const Tensor* Find(std::string_view name) const {
    const auto at = by_name.find(name);
    return at == by_name.end() ? nullptr : &list.checkpoint.tensors[at->second];
  }
  const std::vector<std::string>& ChunksOf(std::string_view name) const {
    return list.chunks[by_name.find(name)->second].digests;
  }
};

absl::StatusOr<Source> Open(const Store& store, std::string_view reference) {
  Source source;
  BDH_ASSIGN_OR_RETURN(source.list, store.ListChunks(reference));
  for (size_t i = 0; i < source.list.checkpoint.tensors.size(); ++i) {
    source.by_name[source.list.checkpoint.tensors[i].name] = i;
  }
  return source;
}

bool SameBytes(const Source& left, const Source& right, std::string_view tensor) {
  return left.list.chunk_bytes == right.list.chunk_bytes && left.ChunksOf(tensor) == right.ChunksOf(tensor);
}

std::string Shape(const Tensor& tensor) {
  return absl::StrFormat("[%s]", absl::StrJoin(tensor.shape, ", "));
}

absl::Status Cancelled() {
  return absl::CancelledError("broken off");
}

std::vector<Selection::Range> RangesOf(const std::vector<const Tensor*>& tensors) {
  std::vector<Selection::Range> ranges;
  for (const Tensor* tensor : tensors) {
    if (tensor->size_bytes > 0) {
      ranges.push_back({.tensor = tensor->name, .offset = 0, .size_bytes = tensor->size_bytes});
    }
  }
  return ranges;
}

// ---- Average ----

absl::StatusOr<std::vector<double>> WeightsOf(const AverageOptions& options) {
  const size_t count = options.references.size();
  if (count < kMinReferences || count > kMaxReferences) {
    return absl::InvalidArgumentError(absl::StrFormat("there are %d checkpoints to average; want %d to %d",
                                                      count, kMinReferences, kMaxReferences));
  }
  std::vector<double> weights = options.weights;
  if (options.decay.has_value()) {
    if (!weights.empty()) return absl::InvalidArgumentError("give weights or a decay, not both");
    const double decay = *options.decay;
    if (!(decay >= 0 && decay <= 1)) {
      return absl::InvalidArgumentError(absl::StrFormat("decay is %g; want 0 to 1", decay));
    }
    for (size_t i = 0; i < count; ++i) {
      const double share = i == 0 ? 1 : 1 - decay;
      weights.push_back(share * std::pow(decay, static_cast<double>(count - 1 - i)));
    }
  }
  if (weights.empty()) weights.assign(count, 1);
  if (weights.size() != count) {
    return absl::InvalidArgumentError(
        absl::StrFormat("there are %d weights for %d checkpoints; want one each", weights.size(), count));
  }
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  const bool finite = std::all_of(weights.begin(), weights.end(), [](double w) { return std::isfinite(w); });
  if (!finite || !(sum > 0)) {
    return absl::InvalidArgumentError("weights must be finite numbers whose sum is above 0");
  }
  return weights;
}

bool IsExcluded(std::string_view tensor, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& prefix) { return tensor.substr(0, prefix.size()) == prefix; });
}

class Averager {
 public:
  Averager(Store& store, const AverageOptions& options, std::vector<double> weights,
           const OnProgress& progress)
      : store_(store), options_(options), weights_(std::move(weights)), progress_(progress) {
    sum_of_weights_ = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  }

  absl::StatusOr<Upload::Result> Run(const DescribeAverage& describe) {
    for (const std::string& reference : options_.references) {
      BDH_ASSIGN_OR_RETURN(Source source, Open(store_, reference));
      sources_.push_back(std::move(source));
    }
    BDH_RETURN_IF_ERROR(ChooseTensors());
    std::vector<Checkpoint> checkpoints;
    for (const Source& source : sources_) checkpoints.push_back(source.list.checkpoint);
    BDH_ASSIGN_OR_RETURN(Checkpoint result, describe(checkpoints));
    result.tensors.clear();
    for (const Tensor* tensor : tensors_) result.tensors.push_back(*tensor);
    BDH_ASSIGN_OR_RETURN(const auto upload, store_.Begin(std::move(result)));
    BDH_RETURN_IF_ERROR(OpenStreams());
    for (const Tensor* tensor : tensors_) BDH_RETURN_IF_ERROR(AverageTensor(*tensor, *upload));
    return upload->Commit();
  }

 private:
  absl::Status ChooseTensors() {
    for (const Tensor& tensor : sources_[0].list.checkpoint.tensors) {
      if (IsExcluded(tensor.name, options_.prefixes_excluded)) continue;
      for (size_t i = 1; i < sources_.size(); ++i) BDH_RETURN_IF_ERROR(CheckAlike(tensor, sources_[i]));
      tensors_.push_back(&tensor);
      bytes_.bytes_total += tensor.size_bytes * static_cast<int64_t>(sources_.size());
    }
    if (!tensors_.empty()) return CheckNoOthers();
    return absl::InvalidArgumentError(absl::StrFormat("%s has no weights", NameOf(0)));
  }

  absl::Status CheckAlike(const Tensor& tensor, const Source& other) const {
    const Tensor* const found = other.Find(tensor.name);
    const std::string& name = other.list.checkpoint.name;
    if (found == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s has no tensor %s, which %s has", name, tensor.name, NameOf(0)));
    }
    if (found->shape != tensor.shape) {
      return absl::InvalidArgumentError(absl::StrFormat("tensor %s is %s in %s and %s in %s", tensor.name,
                                                        Shape(tensor), NameOf(0), Shape(*found), name));
    }
    if (found->dtype != tensor.dtype) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tensor %s is of another type in %s than in %s", tensor.name, name, NameOf(0)));
    }
    if (IsFloat(tensor.dtype) || SameBytes(sources_[0], other, tensor.name)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s holds integers that differ between %s and %s: they have no average",
                        tensor.name, NameOf(0), name));
  }

  absl::Status CheckNoOthers() const {
    for (const Source& source : sources_) {
      for (const Tensor& tensor : source.list.checkpoint.tensors) {
        if (IsExcluded(tensor.name, options_.prefixes_excluded)) continue;
        if (sources_[0].Find(tensor.name) != nullptr) continue;
        return absl::InvalidArgumentError(absl::StrFormat("%s has no tensor %s, which %s has", NameOf(0),
                                                          tensor.name, source.list.checkpoint.name));
      }
    }
    return absl::OkStatus();
  }

  const std::string& NameOf(size_t i) const { return sources_[i].list.checkpoint.name; }

  bool IsSameInAll(const Tensor& tensor) const {
    return std::all_of(sources_.begin(), sources_.end(),
                       [&](const Source& source) { return SameBytes(sources_[0], source, tensor.name); });
  }

  // Of the first all tensors are read, of the others those that differ somewhere.
  absl::Status OpenStreams() {
    std::vector<const Tensor*> differing;
    for (const Tensor* tensor : tensors_) {
      if (!IsSameInAll(*tensor)) differing.push_back(tensor);
    }
    for (size_t i = 0; i < sources_.size(); ++i) {
      // By name: a tag could point elsewhere by now.
      BDH_ASSIGN_OR_RETURN(auto stream,
                           TensorStream::Open(store_, NameOf(i), RangesOf(i == 0 ? tensors_ : differing)));
      streams_.push_back(std::move(stream));
    }
    return absl::OkStatus();
  }

  absl::Status AverageTensor(const Tensor& tensor, Upload& upload) {
    const bool same = IsSameInAll(tensor);
    for (int64_t offset = 0; offset < tensor.size_bytes; offset += kPieceBytes) {
      const size_t size = std::min<size_t>(kPieceBytes, static_cast<size_t>(tensor.size_bytes - offset));
      if (same) {
        BDH_ASSIGN_OR_RETURN(const std::string_view bytes, streams_[0].Next(size));
        BDH_RETURN_IF_ERROR(upload.AddChunk(tensor.name, offset, bytes));
      } else {
        BDH_RETURN_IF_ERROR(SumUp(tensor.dtype, size));
        average_.clear();
        AppendFromDoubles(tensor.dtype, sums_, average_);
        BDH_RETURN_IF_ERROR(upload.AddChunk(tensor.name, offset, average_));
      }
      bytes_.bytes_done += static_cast<int64_t>(size * sources_.size());
      if (progress_ && !progress_(bytes_)) return Cancelled();
    }
    return absl::OkStatus();
  }

  absl::Status SumUp(DType dtype, size_t size) {
    const size_t count = size / static_cast<size_t>(ElementBytes(dtype));
    values_.resize(count);
    sums_.assign(count, 0);
    for (size_t i = 0; i < streams_.size(); ++i) {
      BDH_ASSIGN_OR_RETURN(const std::string_view bytes, streams_[i].Next(size));
      ToDoubles(dtype, bytes, values_);
      for (size_t j = 0; j < count; ++j) sums_[j] += weights_[i] * values_[j];
    }
    for (double& sum : sums_) sum /= sum_of_weights_;
    return absl::OkStatus();
  }

  Store& store_;
  const AverageOptions& options_;
  const std::vector<double> weights_;
  const OnProgress& progress_;
  double sum_of_weights_ = 0;
  std::vector<Source> sources_;
  std::vector<const Tensor*> tensors_;  // Of the first source, without those excluded.
  std::vector<TensorStream> streams_;
  Progress bytes_;
  std::vector<double> values_, sums_;
  std::string average_;
};

// ---- Diff ----

class Differ {
 public:
  Differ(Store& store, const OnProgress& progress) : store_(store), progress_(progress) {}

  absl::StatusOr<std::vector<TensorDiff>> Run(std::string_view left, std::string_view right) {
    BDH_ASSIGN_OR_RETURN(left_, Open(store_, left));
    BDH_ASSIGN_OR_RETURN(right_, Open(store_, right));
    std::set<std::string> names;
    for (const Source* source : {&left_, &right_}) {
      for (const auto& [name, index] : source->by_name) names.insert(name);
    }
    for (const std::string& name : names) diffs_.push_back(Describe(name));
    std::vector<const Tensor*> of_left, of_right;
    for (const TensorDiff& diff : diffs_) {
      if (!IsRead(diff)) continue;
      of_left.push_back(&*diff.left);
      of_right.push_back(&*diff.right);
      bytes_.bytes_total += diff.left->size_bytes + diff.right->size_bytes;
    }
    BDH_ASSIGN_OR_RETURN(auto left_stream,
                         TensorStream::Open(store_, left_.list.checkpoint.name, RangesOf(of_left)));
    BDH_ASSIGN_OR_RETURN(auto right_stream,
                         TensorStream::Open(store_, right_.list.checkpoint.name, RangesOf(of_right)));
    for (TensorDiff& diff : diffs_) {
      if (IsRead(diff)) BDH_RETURN_IF_ERROR(Measure(diff, left_stream, right_stream));
    }
    return std::move(diffs_);
  }

 private:
  TensorDiff Describe(const std::string& name) const {
    TensorDiff diff{.tensor = name, .left = {}, .right = {}};
    const Tensor *left = left_.Find(name), *right = right_.Find(name);
    if (left != nullptr) diff.left = *left;
    if (right != nullptr) diff.right = *right;
    diff.equal = left != nullptr && right != nullptr && left->dtype == right->dtype &&
                 left->shape == right->shape && SameBytes(left_, right_, name);
    return diff;
  }

  static bool IsRead(const TensorDiff& diff) {
    return diff.left.has_value() && diff.right.has_value() && !diff.equal &&
           diff.left->shape == diff.right->shape;
  }

  absl::Status Measure(TensorDiff& diff, TensorStream& left, TensorStream& right) {
    constexpr int64_t kElements = 1 << 16;
    const int64_t left_bytes = ElementBytes(diff.left->dtype), right_bytes = ElementBytes(diff.right->dtype);
    int64_t rest = diff.left->size_bytes / left_bytes;
    double left_squares = 0, squares = 0;
    std::vector<double> a, b;
    while (rest > 0) {
      const int64_t count = std::min(rest, kElements);
      BDH_ASSIGN_OR_RETURN(const std::string_view of_left,
                           left.Next(static_cast<size_t>(count * left_bytes)));
      BDH_ASSIGN_OR_RETURN(const std::string_view of_right,
                           right.Next(static_cast<size_t>(count * right_bytes)));
      a.resize(static_cast<size_t>(count));
      b.resize(static_cast<size_t>(count));
      ToDoubles(diff.left->dtype, of_left, a);
      ToDoubles(diff.right->dtype, of_right, b);
      for (size_t i = 0; i < a.size(); ++i) {
        const double difference = b[i] - a[i];
        left_squares += a[i] * a[i];
        squares += difference * difference;
        diff.difference_max = std::max(diff.difference_max, std::abs(difference));
      }
      rest -= count;
      bytes_.bytes_done += count * (left_bytes + right_bytes);
      if (progress_ && !progress_(bytes_)) return Cancelled();
    }
    diff.left_norm = std::sqrt(left_squares);
    diff.difference_norm = std::sqrt(squares);
    return absl::OkStatus();
  }

  Store& store_;
  const OnProgress& progress_;
  Source left_, right_;
  std::vector<TensorDiff> diffs_;
  Progress bytes_;
};

}  // namespace

absl::StatusOr<Upload::Result> Average(Store& store, const AverageOptions& options,
                                       const DescribeAverage& describe, const OnProgress& progress) {
  BDH_ASSIGN_OR_RETURN(std::vector<double> weights, WeightsOf(options));
  return Averager(store, options, std::move(weights), progress).Run(describe);
}

absl::StatusOr<std::vector<TensorDiff>> Diff(Store& store, std::string_view left, std::string_view right,
                                             const OnProgress& progress) {
  return Differ(store, progress).Run(left, right);
}

}  // namespace bdh::store
