#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_util.h"

namespace bdh::tensorfile {

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  const int descriptor =
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // A pipe would wait for its writer.
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  const auto close = absl::MakeCleanup([&] { ::close(descriptor); });
  struct stat info;
  if (::fstat(descriptor, &info) != 0) return ErrnoStatus(errno, absl::StrFormat("stat %s", path));
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrFormat("%s: not a file", path));
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) return MappedFile(std::string_view());  // The system maps no empty file.
  void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED) return ErrnoStatus(errno, absl::StrFormat("map %s", path));
  return MappedFile(std::string_view(static_cast<const char*>(mapped), size));
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

}  // namespace bdh::tensorfile
