#include "shared_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_format.h"
#include "bdh/base/status_util.h"

namespace bdh::corpus {

absl::StatusOr<std::unique_ptr<SharedLock>> SharedLock::Acquire(const std::string& path,
                                                                const std::string& busy_message) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  auto lock = std::unique_ptr<SharedLock>(new SharedLock(descriptor));
  if (flock(descriptor, LOCK_SH | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) return absl::FailedPreconditionError(busy_message);
  return ErrnoStatus(errno, absl::StrFormat("lock %s", path));
}

SharedLock::~SharedLock() {
  close(descriptor_);
}

}  // namespace bdh::corpus
