#include "bdh/store/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::store {
namespace {

class SystemFile final : public File {
 public:
  SystemFile(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  ~SystemFile() override { close(descriptor_); }

  absl::Status WriteAt(int64_t offset, std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t written = pwrite(descriptor_, bytes.data(), bytes.size(), offset);
      if (written < 0) {
        if (errno == EINTR) continue;
        return ErrnoStatus(errno, absl::StrFormat("write %s", path_));
      }
      bytes.remove_prefix(static_cast<size_t>(written));
      offset += written;
    }
    return absl::OkStatus();
  }

  absl::Status ReadAt(int64_t offset, size_t size, char* out) const override {
    while (size > 0) {
      const ssize_t got = pread(descriptor_, out, size, offset);
      if (got < 0) {
        if (errno == EINTR) continue;
        return ErrnoStatus(errno, absl::StrFormat("read %s", path_));
      }
      if (got == 0) return absl::DataLossError(absl::StrFormat("%s ends at byte %d", path_, offset));
      out += got;
      offset += got;
      size -= static_cast<size_t>(got);
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    if (fdatasync(descriptor_) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, absl::StrFormat("sync %s", path_));
  }

  void StartWriting(int64_t offset, int64_t size) override {
    sync_file_range(descriptor_, offset, size, SYNC_FILE_RANGE_WRITE);
  }

 private:
  const int descriptor_;
  const std::string path_;
};

class System final : public Files {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, Mode mode) override {
    int flags = O_CLOEXEC;
    if (mode == Mode::kRead) flags |= O_RDONLY;
    if (mode == Mode::kCreate) flags |= O_RDWR | O_CREAT | O_EXCL;
    if (mode == Mode::kUpdate) flags |= O_RDWR | O_CREAT;
    const int descriptor = open(path.c_str(), flags, 0644);
    if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
    return std::make_unique<SystemFile>(descriptor, path);
  }

  absl::Status Remove(const std::string& path) override {
    if (unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
    return ErrnoStatus(errno, absl::StrFormat("remove %s", path));
  }

  absl::StatusOr<std::vector<Entry>> List(const std::string& folder) override {
    std::vector<Entry> entries;
    std::error_code error;
    auto entry = std::filesystem::directory_iterator(folder, error);
    if (error == std::errc::no_such_file_or_directory) return entries;
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
      std::error_code no_size;
      const auto size = entry->is_regular_file(no_size) ? entry->file_size(no_size) : 0;
      entries.push_back({.name = entry->path().filename().string(),
                         .size_bytes = no_size ? 0 : static_cast<int64_t>(size)});
    }
    if (error) return ErrnoStatus(error.value(), absl::StrFormat("list %s", folder));
    return entries;
  }

  absl::Status MakeFolder(const std::string& folder) override { return MakeDirectories(folder); }
  absl::Status SyncFolder(const std::string& folder) override { return SyncDirectory(folder); }

  int64_t FreeBytes(const std::string& folder) override {
    struct statvfs info;
    // A disk that cannot be asked is not taken for a full one: the write itself will tell.
    if (statvfs(folder.c_str(), &info) != 0) return INT64_MAX;
    return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
  }

  absl::StatusOr<std::shared_ptr<void>> Lock(const std::string& path,
                                             std::string_view busy_message) override {
    BDH_ASSIGN_OR_RETURN(FileLock lock, FileLock::Acquire(path, busy_message));
    return std::shared_ptr<void>(std::make_shared<FileLock>(std::move(lock)));
  }
};

}  // namespace

Files& SystemFiles() {
  static System* const files = new System();
  return *files;
}

}  // namespace bdh::store
