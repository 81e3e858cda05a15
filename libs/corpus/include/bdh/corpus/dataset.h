// A data set on disk: documents as token ids in memory-mapped shards, cut into a train and a validation
// split.
//
// A data set is one folder: manifest.json, written last; train-00000.tokens, validation-00000.tokens, ...;
// documents.index. Its bytes never change once it is there.
#pragma once

#include <cstdint>
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

struct ShardInfo {
  std::string file;  // In the data set's folder.
  Split split = Split::kTrain;
  int64_t tokens = 0;
  int64_t size_bytes = 0;
  std::string sha256;  // Of the tokens.
};

// What a manifest says.
struct DatasetInfo {
  std::string name;
  // SHA-256 over tokenizer, validation share and documents: equal hashes give equal batches. Neither the
  // documents' names nor the size of shards matter.
  std::string hash;
  std::string tokenizer;
  int vocab_size = 0;
  int token_bytes = 0;  // 1, 2 or 4, as stored.
  double validation_fraction = 0;
  int64_t documents = 0;
  int64_t bytes_in = 0;
  int64_t train_tokens = 0;
  int64_t validation_tokens = 0;
  absl::Time create_time;
  std::string sample;             // The beginning of the first document that has text.
  std::string index_sha256;       // Of documents.index.
  std::vector<ShardInfo> shards;  // In order of tokens, train before validation.
};

struct MappedShard;

// Thread-safe. The files stay mapped as long as the object lives, also when they are deleted meanwhile.
class Dataset {
 public:
  // Checks that every file is there, ours and of the recorded size, but does not read the tokens.
  // DataLossError names the file that is wrong; FailedPreconditionError: made by a newer release.
  static absl::StatusOr<std::shared_ptr<const Dataset>> Open(const std::string& folder);
  ~Dataset();

  const DatasetInfo& info() const { return info_; }
  int64_t tokens(Split split) const;

  // Where a document ends in each split; it begins where the one before it ends.
  struct DocumentEnd {
    int64_t train, validation;
  };
  DocumentEnd document_end(int64_t document) const;

  // Copies `count` tokens from `position` on, as stored: count * token_bytes bytes. The range lies in the
  // split.
  void Copy(Split split, int64_t position, int64_t count, char* out) const;

  // Reads everything and compares checksums. DataLossError names the file.
  absl::Status Verify() const;

  // Verify() at the first call, its answer at later ones. Sets over kVerifyOnceBytesMax are taken as they
  // are, because the first batch should not wait for minutes of reading: call Verify() for those.
  absl::Status VerifyOnce() const;
  static constexpr int64_t kVerifyOnceBytesMax = int64_t{4} << 30;

 private:
  // A split is its shards one after the other.
  struct Piece {
    int64_t begin;
    std::unique_ptr<MappedShard> shard;
  };

  Dataset() = default;
  absl::Status Map(const std::string& folder);

  DatasetInfo info_;
  std::vector<Piece> train_, validation_;
  std::unique_ptr<MappedShard> index_;
  mutable Mutex verify_mutex_;
  mutable bool verified_ ABSL_GUARDED_BY(verify_mutex_) = false;
  mutable absl::Status verdict_ ABSL_GUARDED_BY(verify_mutex_);
};

}  // namespace bdh::corpus
