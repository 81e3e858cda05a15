// Named tokenizers in a folder, one subfolder each. A tokenizer is there whole or not at all, also after a
// crash.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/base/mutex.h"
#include "bdh/tokenizer/tokenizer.h"

namespace bdh::tokenizer {

// Any thread may call. Other processes may have the same folder: what one adds or deletes the others see at
// the next question.
class Library {
 public:
  struct Entry {
    std::shared_ptr<const Tokenizer> tokenizer;
    absl::Time created;
  };

  // Makes the folder if it is missing and removes what a crash left half written an hour ago. A damaged
  // tokenizer is logged; asking for it gives the reason, the others are served.
  static absl::StatusOr<std::unique_ptr<Library>> Open(std::string folder);

  // The one place that turns a name into a tokenizer; "" means "byte". NotFoundError names the known ones.
  absl::StatusOr<std::shared_ptr<const Tokenizer>> Find(std::string_view name) const;
  // Sorted by name; "byte" is always there.
  std::vector<Entry> List() const;
  absl::StatusOr<Entry> Get(std::string_view name) const;

  // Checks the files, writes them, and makes the tokenizer known. The same files under the same name again
  // are OK. AlreadyExistsError: the name is taken by other content, or is "byte". InvalidArgumentError: a bad
  // name, or LoadTokenizer's.
  absl::StatusOr<std::shared_ptr<const Tokenizer>> Add(const std::string& name,
                                                       std::vector<TokenizerFile> files);
  // NotFoundError; InvalidArgumentError for "byte". Whoever holds the tokenizer keeps it.
  absl::Status Delete(const std::string& name);

 private:
  struct Known {
    absl::StatusOr<Entry> entry;
    std::string version;  // Of the folder, which is another one after a deletion.
  };

  explicit Library(std::string folder) : folder_(std::move(folder)) {}
  absl::Status Load();
  std::string FolderOf(std::string_view name) const;
  // Brings one name, or all, up to what lies in the folder.
  void Refresh(const std::string& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RefreshAll() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<const Tokenizer>> Publish(const std::string& staging,
                                                           std::shared_ptr<const Tokenizer> tokenizer);

  const std::string folder_;
  mutable Mutex mutex_;
  mutable std::map<std::string, Known, std::less<>> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace bdh::tokenizer
