#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace bdh::corpus {

// A lock on a file that many may hold together, and that keeps away whoever wants it alone, such as a daemon
// of release 0.1. Held until destruction.
class SharedLock {
 public:
  // FailedPreconditionError: somebody has it alone.
  static absl::StatusOr<std::unique_ptr<SharedLock>> Acquire(const std::string& path,
                                                             const std::string& busy_message);
  ~SharedLock();

 private:
  explicit SharedLock(int descriptor) : descriptor_(descriptor) {}
  const int descriptor_;
};

}  // namespace bdh::corpus
