// Files, with errors that name the file and writes that survive a power cut.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh {

absl::StatusOr<std::string> ReadFile(const std::string& path);

// Replaces `path` as a whole: readers see the old bytes or the new ones. Synced, folder included.
absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes, int mode = 0644);

absl::Status MakeDirectories(const std::string& path);

// Of what a folder holds, in no order.
absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& folder);

// A file, or a folder with all it holds. What cannot be removed is logged.
void RemoveAll(const std::string& path);

// Makes entries created or renamed in `path` durable.
absl::Status SyncDirectory(const std::string& path);

// An exclusive lock on a file, held until destruction and given up by the system if the process dies.
class FileLock {
 public:
  // FailedPreconditionError when another process holds it; the message is `busy_message`.
  static absl::StatusOr<FileLock> Acquire(const std::string& path, std::string_view busy_message);
  FileLock(FileLock&& other) noexcept : descriptor_(other.descriptor_) { other.descriptor_ = -1; }
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace bdh
