// All data sets of one folder: made whole or not at all, found by name, deleted while others still read them.
//
// FOLDER/datasets/NAME/ holds a data set, FOLDER/staging/ what is being made or deleted. A data set moves
// between the two by one rename, so that a crash leaves it whole or not there; what it leaves half done in
// staging is gone on with when the same data set is asked for again, within a week. Data sets that are served
// while they are made are at their place from the beginning, with a stream.json, and are gone on with at
// Open.
//
// Several processes may have one folder, on one machine or over a file system that keeps locks: each sees
// what the others make and delete. A data set that one of them is streaming into is served by that one until
// it is whole.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
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
  SplitRule split_rule = SplitRule::kAuto;
  std::optional<bool> end_of_text = std::nullopt;  // Unset: if the tokenizer has one.
  std::optional<Order> order = std::nullopt;       // Unset: kRandom.
  bool scored = false;
};

class DatasetImport;
class SharedLock;

// Thread-safe.
class DatasetStore {
 public:
  struct Options {
    std::string folder = "";
    int64_t shard_tokens = int64_t{64} << 20;
    int64_t max_dataset_bytes = int64_t{1} << 40;
    int threads = 1;  // That tokenize, for each data set that is being made.
    // After how many tokens it is noted how far the making of a data set is.
    int64_t checkpoint_tokens = int64_t{16} << 20;
    // Unset: tokenizer::Find.
    std::function<absl::StatusOr<std::shared_ptr<const tokenizer::Tokenizer>>(std::string_view)>
        find_tokenizer = nullptr;
  };

  // PermissionDeniedError: not writable.
  // A damaged data set does not prevent opening: using it says what is wrong, deleting it works.
  static absl::StatusOr<std::unique_ptr<DatasetStore>> Open(Options options);
  ~DatasetStore();  // Stops streaming.

  // Sorted by name, without the damaged ones.
  std::vector<std::shared_ptr<const Dataset>> List() const;

  // NotFoundError names the ones there are; DataLossError: damaged; UnavailableError: another process is
  // streaming into it.
  absl::StatusOr<std::shared_ptr<const Dataset>> Get(std::string_view name) const;

  // What was opened before stays readable to its holders. Removes too what is kept of attempts to make it.
  // FailedPreconditionError: another data set is made of it.
  absl::Status Delete(std::string_view name);

  // Begins to make a data set. InvalidArgumentError: bad name or share; NotFoundError: no such tokenizer.
  // The store outlives the import.
  absl::StatusOr<std::unique_ptr<DatasetImport>> Import(const DatasetSpec& spec);

  // Other data sets under one name, or one under another order: no text, no tokens.
  absl::StatusOr<std::shared_ptr<const Dataset>> Combine(const DatasetSpec& spec,
                                                         std::vector<DatasetInfo::Part> parts);

  // A data set that is served while it is made. `source_hash` identifies where its text comes from; `source`
  // says it to Feeder, now and after a restart.
  struct StreamSpec {
    DatasetSpec dataset;
    std::string source_hash;
    std::string source;
  };
  absl::StatusOr<std::shared_ptr<const Dataset>> Stream(const StreamSpec& spec);

  // Hands all documents of `source` to `builder` and says what became of them. Ends early when asked to stop.
  using Feeder = std::function<absl::StatusOr<Report>(const std::string& source, DatasetBuilder& builder,
                                                      std::stop_token stop)>;
  // Before it is called nothing is streamed. Goes on with what was begun before.
  void StartStreaming(Feeder feeder);

  absl::StatusOr<std::shared_ptr<const tokenizer::Tokenizer>> FindTokenizer(std::string_view name) const;
  const Options& options() const { return options_; }

 private:
  friend class DatasetImport;
  struct Entry {
    absl::StatusOr<std::shared_ptr<const Dataset>> dataset;
    std::string version;  // Of the folder: another one means that another process replaced it.
  };
  struct Growth {
    std::shared_ptr<Dataset> dataset;
    StreamSpec spec;
    std::optional<FileLock> lock;
    std::atomic<bool> ended = false;
    std::jthread thread;  // Last: it uses the others.
  };

  DatasetStore(Options options, std::unique_ptr<SharedLock> lock);
  absl::Status Load();
  void ClearStaging(const std::string& staging);
  std::string FolderOf(std::string_view name) const;
  std::string StagingFolder(const std::string& key) const;
  std::string NewStagingFolder() const;
  bool Contains(std::string_view name) const;
  absl::StatusOr<std::shared_ptr<const Dataset>> OpenAs(const std::string& name) const;
  // Brings what is known of `name` up to date with the folder.
  void Refresh(const std::string& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RefreshAll() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<const Dataset>> Find(std::string_view name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives the finished folder its name, or finds that the same content already has it.
  absl::StatusOr<std::shared_ptr<const Dataset>> Publish(const DatasetInfo& info, const std::string& folder);
  absl::Status Claim(const std::string& key, DatasetImport& import);
  absl::StatusOr<DatasetBuilder::Options> BuilderOptions(const DatasetSpec& spec) const;
  absl::StatusOr<std::shared_ptr<const Dataset>> BeginGrowth(const StreamSpec& spec)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static std::string StreamHash(const StreamSpec& spec, const DatasetBuilder::Options& options);
  static absl::Status Feed(Growth& growth, const DatasetBuilder::Options& options, const Feeder& feeder,
                           std::stop_token stop);
  void EndGrowth(const std::string& name);

  const Options options_;
  const std::unique_ptr<SharedLock> lock_;
  mutable Mutex mutex_;
  mutable std::map<std::string, Entry, std::less<>> datasets_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> importing_ ABSL_GUARDED_BY(mutex_);  // Keys of staging folders.
  Feeder feeder_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::unique_ptr<Growth>, std::less<>> growing_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Growth>> grown_ ABSL_GUARDED_BY(mutex_);  // Their threads are at their end.
};

// Takes documents in. Destroyed before Commit said OK, it leaves nothing that is listed. One thread at a
// time.
class DatasetImport {
 public:
  struct Progress {
    int64_t documents = 0, bytes_in = 0, tokens = 0;
    int64_t resumed_tokens = 0;  // Made by an attempt before this one.
  };

  ~DatasetImport();
  absl::Status BeginDocument(std::optional<double> score = std::nullopt);
  // ResourceExhaustedError: over max_dataset_bytes, or the disk is full.
  absl::Status Append(std::string_view text);
  Progress progress() const;

  // The data set, durable. When it was there already with the same content it is that one.
  // AlreadyExistsError: the name is taken by other content. InvalidArgumentError: no text, or a split that
  // would be empty.
  absl::StatusOr<std::shared_ptr<const Dataset>> Commit(Report report = {});

 private:
  friend class DatasetStore;
  DatasetImport(DatasetStore& store, std::string name, Identity identity)
      : store_(store), name_(std::move(name)), hash_(std::move(identity)) {}

  DatasetStore& store_;
  const std::string name_;
  std::string folder_, key_;
  std::optional<FileLock> folder_lock_;
  Progress progress_;
  // A name that is taken needs no second copy of the tokens: then only the hash is made, to compare.
  std::unique_ptr<DatasetBuilder> builder_;
  ContentHash hash_;
};

}  // namespace bdh::corpus
