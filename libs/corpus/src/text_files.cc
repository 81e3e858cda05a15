#include "bdh/corpus/text_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::corpus {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPieceBytes = size_t{1} << 20;

absl::StatusOr<struct stat> Stat(const std::string& path) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) return ErrnoStatus(errno, absl::StrFormat("source %s", path));
  return status;
}

absl::Status NotAFile(const std::string& path) {
  return absl::InvalidArgumentError(absl::StrFormat(
      "source %s is neither a regular file nor a folder; give a text file or a folder of *.txt", path));
}

// Links to folders are not followed: they may go round in circles.
absl::StatusOr<std::vector<std::string>> TextFilesBelow(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> found;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;
    if (it->path().extension() == ".txt" && it->is_regular_file(gone)) found.push_back(it->path().string());
  }
  if (error) return ErrnoStatus(error.value(), absl::StrFormat("list folder %s", folder));
  if (found.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat("folder %s has no *.txt in it", folder));
  }
  std::sort(found.begin(), found.end());
  return found;
}

absl::StatusOr<std::vector<std::string>> Expand(const std::string& path) {
  if (!fs::path(path).is_absolute()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "source '%s' is not an absolute path; give one that begins with /, as the data loader sees it",
        path));
  }
  BDH_ASSIGN_OR_RETURN(const struct stat status, Stat(path));
  if (S_ISDIR(status.st_mode)) return TextFilesBelow(path);
  if (!S_ISREG(status.st_mode)) return NotAFile(path);
  return std::vector<std::string>{path};
}

}  // namespace

absl::StatusOr<std::vector<TextFile>> ListTextFiles(const std::vector<std::string>& paths) {
  std::vector<TextFile> files;
  std::set<std::pair<dev_t, ino_t>> seen;
  for (const std::string& path : paths) {
    BDH_ASSIGN_OR_RETURN(const auto expanded, Expand(path));
    for (const std::string& file : expanded) {
      BDH_ASSIGN_OR_RETURN(const struct stat status, Stat(file));
      if (!seen.emplace(status.st_dev, status.st_ino).second) {
        return absl::InvalidArgumentError(
            absl::StrFormat("source file %s is given twice; name each file once, its folder included", file));
      }
      files.push_back({file, status.st_size});
    }
  }
  return files;
}

absl::Status ReadTextFile(const std::string& path,
                          const std::function<absl::Status(std::string_view piece)>& consume) {
  // O_NONBLOCK: a pipe put there since the listing must not hold us.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  const absl::Cleanup closer = [&] { close(descriptor); };
  struct stat status = {};
  if (fstat(descriptor, &status) != 0) return ErrnoStatus(errno, absl::StrFormat("stat %s", path));
  if (!S_ISREG(status.st_mode)) return NotAFile(path);
  std::string buffer(kPieceBytes, '\0');
  while (true) {
    const ssize_t got = read(descriptor, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, absl::StrFormat("read %s", path));
    if (got == 0) return absl::OkStatus();
    BDH_RETURN_IF_ERROR(consume(std::string_view(buffer).substr(0, static_cast<size_t>(got))));
  }
}

}  // namespace bdh::corpus
