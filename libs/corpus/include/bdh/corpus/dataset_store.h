// All data sets of one folder: made whole or not at all, found by name, deleted while others still read them.
//
// FOLDER/datasets/NAME/ holds a data set, FOLDER/staging/ what is being made or deleted. A data set moves
// between the two by one rename, so that whatever a crash leaves half done lies in staging, which Open
// empties.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/file.h"
#include "bdh/base/mutex.h"
#include "bdh/corpus/dataset.h"
#include "bdh/corpus/dataset_builder.h"

namespace bdh::corpus {

struct DatasetSpec {
  std::string name = "";
  std::string tokenizer = "";                                // Empty: "byte".
  std::optional<double> validation_fraction = std::nullopt;  // Unset: 0.1.
};

class DatasetImport;

// Thread-safe.
class DatasetStore {
 public:
  struct Options {
    std::string folder = "";
    int64_t shard_tokens = int64_t{64} << 20;
    int64_t max_dataset_bytes = int64_t{1} << 40;
  };

  // FailedPreconditionError: another process has the folder; PermissionDeniedError: not writable.
  // A damaged data set does not prevent opening: using it says what is wrong, deleting it works.
  static absl::StatusOr<std::unique_ptr<DatasetStore>> Open(Options options);

  // Sorted by name, without the damaged ones.
  std::vector<std::shared_ptr<const Dataset>> List() const;

  // NotFoundError names the ones there are; DataLossError: damaged.
  absl::StatusOr<std::shared_ptr<const Dataset>> Get(std::string_view name) const;

  // What was opened before stays readable to its holders.
  absl::Status Delete(std::string_view name);

  // Begins to make a data set. InvalidArgumentError: bad name or share; NotFoundError: no such tokenizer.
  // The store outlives the import.
  absl::StatusOr<std::unique_ptr<DatasetImport>> Import(const DatasetSpec& spec);

  const Options& options() const { return options_; }

 private:
  friend class DatasetImport;
  using Entry = absl::StatusOr<std::shared_ptr<const Dataset>>;

  DatasetStore(Options options, FileLock lock) : options_(std::move(options)), lock_(std::move(lock)) {}
  absl::Status Load();
  std::string FolderOf(std::string_view name) const;
  std::string NewStagingFolder() const;
  bool Contains(std::string_view name) const;
  // Gives the finished folder its name, or finds that the same content already has it.
  absl::StatusOr<std::shared_ptr<const Dataset>> Publish(const DatasetInfo& info, const std::string& folder);

  const Options options_;
  const FileLock lock_;
  mutable Mutex mutex_;
  std::map<std::string, Entry, std::less<>> datasets_ ABSL_GUARDED_BY(mutex_);
};

// Takes documents in. Destroyed before Commit said OK, it leaves nothing behind. One thread at a time.
class DatasetImport {
 public:
  struct Progress {
    int64_t documents = 0, bytes_in = 0, tokens = 0;
  };

  absl::Status BeginDocument();
  // ResourceExhaustedError: over max_dataset_bytes, or the disk is full.
  absl::Status Append(std::string_view text);
  Progress progress() const;

  // The data set, durable. When it was there already with the same content it is that one.
  // AlreadyExistsError: the name is taken by other content. InvalidArgumentError: no text, or a split that
  // would be empty.
  absl::StatusOr<std::shared_ptr<const Dataset>> Commit();

 private:
  friend class DatasetStore;
  DatasetImport(DatasetStore& store, std::string name, std::string_view tokenizer, double validation_fraction)
      : store_(store), name_(std::move(name)), hash_(tokenizer, validation_fraction) {}

  DatasetStore& store_;
  const std::string name_;
  std::string folder_;
  Progress progress_;
  // A name that is taken needs no second copy of the tokens: then only the hash is made, to compare.
  std::unique_ptr<DatasetBuilder> builder_;
  ContentHash hash_;
};

}  // namespace bdh::corpus
