#include "private_file.h"

#include <sys/stat.h>

#include "absl/strings/str_format.h"
#include "bdh/base/status_util.h"

namespace bdh::mesh {

absl::Status CheckPrivate(const std::string& key, const std::string& file) {
  struct stat info;
  if (stat(file.c_str(), &info) != 0) return ErrnoStatus(errno, absl::StrFormat("%s %s", key, file));
  if ((info.st_mode & S_IRWXO) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("%s %s can be read by everybody (mode %04o); run: chmod 600 %s", key, file,
                      info.st_mode & 07777, file));
}

}  // namespace bdh::mesh
