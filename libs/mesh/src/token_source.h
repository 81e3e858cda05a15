// The tokens that hold now: fixed, or those of a file that is read again when it changes.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bdh/base/mutex.h"
#include "bdh/mesh/token_file.h"

namespace bdh::mesh {

// Thread-safe.
class TokenSource {
 public:
  explicit TokenSource(Tokens tokens) : tokens_(std::make_shared<const Tokens>(std::move(tokens))) {}
  static absl::StatusOr<std::unique_ptr<TokenSource>> Open(const std::string& file);

  // Looks at the file at most once a second. One that has become unreadable is warned of and changes nothing.
  std::shared_ptr<const Tokens> Get();

 private:
  void Refresh() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::string file_;  // Empty: fixed.
  Mutex mutex_;
  std::shared_ptr<const Tokens> tokens_ ABSL_GUARDED_BY(mutex_);
  struct stat seen_ ABSL_GUARDED_BY(mutex_) = {};
  absl::Time looked_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace bdh::mesh
