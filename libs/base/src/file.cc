#include "bdh/base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"

namespace bdh {
namespace {

absl::Status WriteAll(int descriptor, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, absl::StrFormat("write %s", path));
    }
    bytes.remove_prefix(written);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  const absl::Cleanup closer = [&] { close(descriptor); };
  std::string bytes;
  char buffer[65536];
  while (true) {
    const ssize_t got = read(descriptor, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, absl::StrFormat("read %s", path));
    if (got == 0) return bytes;
    bytes.append(buffer, got);
  }
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes, int mode) {
  // A name of its own, so that two writers never share a half-written file.
  const std::string temporary = absl::StrFormat("%s.%s.tmp", path, RandomHex(4));
  const int descriptor = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("create %s", temporary));
  absl::Cleanup remover = [&] { unlink(temporary.c_str()); };
  absl::Status status = WriteAll(descriptor, bytes, temporary);
  if (status.ok() && fsync(descriptor) != 0)
    status = ErrnoStatus(errno, absl::StrFormat("sync %s", temporary));
  close(descriptor);
  BDH_RETURN_IF_ERROR(status);
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoStatus(errno, absl::StrFormat("rename %s to %s", temporary, path));
  }
  std::move(remover).Cancel();
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return SyncDirectory(folder.empty() ? "." : folder);
}

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return ErrnoStatus(error.value(), absl::StrFormat("create folder %s", path));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return ErrnoStatus(error.value(), absl::StrFormat("list folder %s", folder));
  return names;
}

void RemoveAll(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) BDH_LOG(WARNING) << "cannot remove path=" << path << " error=" << error.message();
}

absl::Status SyncDirectory(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open folder %s", path));
  const int result = fsync(descriptor);
  const int error = errno;
  close(descriptor);
  if (result != 0) return ErrnoStatus(error, absl::StrFormat("sync folder %s", path));
  return absl::OkStatus();
}

absl::StatusOr<FileLock> FileLock::Acquire(const std::string& path, std::string_view busy_message) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    close(descriptor);
    if (error == EWOULDBLOCK) return absl::FailedPreconditionError(std::string(busy_message));
    return ErrnoStatus(error, absl::StrFormat("lock %s", path));
  }
  return FileLock(descriptor);
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

}  // namespace bdh
