#include "bdh/base/status_util.h"

#include <cerrno>
#include <string>
#include <system_error>

#include "absl/strings/str_format.h"

namespace bdh {

absl::Status Annotate(const absl::Status& status, std::string_view doing) {
  if (status.ok()) return status;
  absl::Status out(status.code(), absl::StrFormat("%s: %s", doing, status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& p) { out.SetPayload(url, p); });
  return out;
}

absl::Status ErrnoStatus(int error_number, std::string_view doing) {
  absl::StatusCode code = absl::StatusCode::kInternal;
  switch (error_number) {
    case ENOENT:
      code = absl::StatusCode::kNotFound;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = absl::StatusCode::kPermissionDenied;
      break;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      code = absl::StatusCode::kResourceExhausted;
      break;
    case EEXIST:
      code = absl::StatusCode::kAlreadyExists;
      break;
    case ENOTDIR:
    case EISDIR:
    case EINVAL:
      code = absl::StatusCode::kInvalidArgument;
      break;
  }
  return absl::Status(code, absl::StrFormat("%s: %s", doing, std::generic_category().message(error_number)));
}

}  // namespace bdh
