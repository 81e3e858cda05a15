// A data set on disk: documents as token ids in memory-mapped shards, cut into a train and a validation
// split; or other data sets under one name.
//
// A data set is one folder: manifest.json, written last; train-00000.tokens, validation-00000.tokens, ...;
// documents.index, scores.index. Its bytes never change once it is there. One that is served while it is
// tokenized has a journal.json in place of the manifest and gets more shards.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/base/mutex.h"

namespace bdh::corpus {

enum class Split { kTrain, kValidation };

// "train" or "validation".
std::string_view SplitName(Split split);

// What goes to validation.
enum class SplitRule {
  kAuto,      // kDocument from kManyDocuments documents on, else kTail.
  kTail,      // The tail of every document.
  kDocument,  // Whole documents, drawn by the hash of their text.
};
inline constexpr int kManyDocuments = 100;

// The order in which a split's tokens are read: sampler.h.
enum class Order { kRandom, kEpoch, kSequential, kLanes, kLength, kScore, kWindow };

// "random", "epoch", "sequential", "lanes", "length", "score", "window".
std::string_view OrderName(Order order);
// InvalidArgumentError lists them.
absl::StatusOr<Order> ParseOrder(std::string_view name);

struct ShardInfo {
  std::string file;  // In the data set's folder.
  Split split = Split::kTrain;
  int64_t tokens = 0;
  int64_t size_bytes = 0;
  std::string sha256;  // Of the tokens.
};

// What became of everything that was read.
struct Report {
  struct Dropped {
    std::string reason;
    int64_t documents = 0, bytes = 0;
  };
  struct Source {
    std::string name;
    int64_t documents = 0;  // Kept. They follow each other in the data set.
  };
  int64_t documents_in = 0, bytes_in = 0;
  std::vector<Dropped> dropped = {};
  std::vector<Source> sources = {};
};

// What a manifest says.
struct DatasetInfo {
  std::string name;
  // SHA-256 over tokenizer, validation share and documents: equal hashes give equal batches. Neither the
  // documents' names nor the size of shards matter. A streaming one's is over its list of sources, that of
  // one with parts over theirs.
  std::string hash;
  std::string tokenizer;
  std::string tokenizer_hash;  // Empty in data sets of release 0.1, which are of bytes.
  int vocab_size = 0;
  int token_bytes = 0;  // 1, 2 or 4, as stored.
  double validation_fraction = 0;
  SplitRule split_rule = SplitRule::kTail;
  bool end_of_text = false;  // Every document ends with the tokenizer's end of text.
  Order order = Order::kRandom;
  bool streaming = false;
  bool scored = false;
  int64_t documents = 0;
  int64_t bytes_in = 0;  // Of the documents that were kept.
  int64_t train_tokens = 0;
  int64_t validation_tokens = 0;
  absl::Time create_time;
  std::string sample;             // The beginning of the first document that has text.
  std::string index_sha256;       // Of documents.index.
  std::string scores_sha256;      // Of scores.index, if there are scores.
  std::vector<ShardInfo> shards;  // In order of tokens, train before validation.
  struct Part {
    std::string dataset, hash;
    double weight = 1;
  };
  std::vector<Part> parts;
  Report report;
};

struct MappedShard;
class DocumentOrder;

// Thread-safe. The files stay mapped as long as the object lives, also when they are deleted meanwhile.
class Dataset {
 public:
  // Checks that every file is there, ours and of the recorded size, but does not read the tokens.
  // DataLossError names the file that is wrong; FailedPreconditionError: made by a newer release.
  // One with parts has none yet: see WithParts.
  static absl::StatusOr<std::shared_ptr<const Dataset>> Open(const std::string& folder);

  // Other data sets under one name: `info` names them, `parts` are they.
  struct Part {
    std::shared_ptr<const Dataset> dataset;
    double weight;
  };
  static std::shared_ptr<const Dataset> WithParts(DatasetInfo info, std::vector<Part> parts);

  // One that is still being made: Grow gives it its shards.
  static std::shared_ptr<Dataset> Growing(DatasetInfo info, std::string folder);
  ~Dataset();

  // Of one that grows, what was known when it was begun.
  const DatasetInfo& info() const { return info_; }
  int64_t tokens(Split split) const;
  const std::vector<Part>& parts() const { return parts_; }

  // All its shards are there.
  bool complete() const;
  // OK too when the data set is complete with fewer. The error that ended its making, or CancelledError.
  absl::Status AwaitTokens(Split split, int64_t tokens, const std::function<bool()>& cancelled) const;

  // More finished shards: `info` is what is known by now.
  absl::Status Grow(const DatasetInfo& info);
  // No more will come: the making ended well, or with an error that readers get who wait for more.
  void EndGrowth(const absl::Status& outcome);
  // What is known by now: info() but for what grows.
  DatasetInfo CurrentInfo() const;

  // Where a document ends in each split; it begins where the one before it ends. Of complete data sets.
  struct DocumentEnd {
    int64_t train, validation;
    int64_t of(Split split) const { return split == Split::kTrain ? train : validation; }
  };
  DocumentEnd document_end(int64_t document) const;
  double score(int64_t document) const;
  // The document that holds the split's token `position`.
  int64_t DocumentAt(Split split, int64_t position) const;
  // Calls `visit` with every position in [position, position + count) at which a document begins.
  void VisitDocumentBegins(Split split, int64_t position, int64_t count,
                           const std::function<void(int64_t position)>& visit) const;
  // The split's documents in order of length or score. ResourceExhaustedError: too many to sort in memory.
  // Kept for the next who asks.
  absl::StatusOr<std::shared_ptr<const DocumentOrder>> DocumentsInOrder(Split split, Order order) const;

  // Copies `count` tokens from `position` on, as stored: count * token_bytes bytes. The range lies in the
  // split.
  void Copy(Split split, int64_t position, int64_t count, char* out) const;
  // The same as numbers.
  std::vector<int32_t> Tokens(Split split, int64_t position, int64_t count) const;

  // Reads everything and compares checksums. DataLossError names the file. An error of `progress`, which
  // hears how many bytes were read, ends it.
  absl::Status Verify(const std::function<absl::Status(int64_t bytes)>& progress = nullptr) const;
  int64_t verify_bytes() const;  // What Verify reads.

  // Verify() at the first call, its answer at later ones. Sets over kVerifyOnceBytesMax are taken as they
  // are, because the first batch should not wait for minutes of reading: call Verify() for those.
  absl::Status VerifyOnce() const;
  static constexpr int64_t kVerifyOnceBytesMax = int64_t{4} << 30;

 private:
  // A split is its shards one after the other.
  struct Piece {
    int64_t begin;
    std::shared_ptr<const MappedShard> shard;
  };
  // What is there at a moment; replaced as a whole.
  struct Contents {
    std::vector<Piece> train, validation;
    int64_t train_tokens = 0, validation_tokens = 0;
    std::shared_ptr<const MappedShard> index, scores;  // Null while it grows.
    const std::vector<Piece>& pieces(Split split) const {
      return split == Split::kTrain ? train : validation;
    }
    int64_t tokens(Split split) const { return split == Split::kTrain ? train_tokens : validation_tokens; }
  };

  Dataset(DatasetInfo info, std::string folder) : info_(std::move(info)), folder_(std::move(folder)) {}
  // Adds what `info` lists and `contents` does not have yet.
  absl::Status Map(const DatasetInfo& info, Contents& contents) const;
  std::shared_ptr<const Contents> contents() const;

  const DatasetInfo info_;
  const std::string folder_;
  std::vector<Part> parts_;

  mutable Mutex mutex_;
  mutable CondVar grown_;
  std::shared_ptr<const Contents> contents_ ABSL_GUARDED_BY(mutex_) = std::make_shared<const Contents>();
  DatasetInfo current_ ABSL_GUARDED_BY(mutex_);
  bool growing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status growth_ ABSL_GUARDED_BY(mutex_);

  mutable Mutex orders_mutex_;
  mutable std::shared_ptr<const DocumentOrder> orders_[2][2] ABSL_GUARDED_BY(orders_mutex_);
  mutable Mutex verify_mutex_;
  mutable bool verified_ ABSL_GUARDED_BY(verify_mutex_) = false;
  mutable absl::Status verdict_ ABSL_GUARDED_BY(verify_mutex_);
};

}  // namespace bdh::corpus
