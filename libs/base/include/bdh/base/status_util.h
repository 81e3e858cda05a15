#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace bdh {

// Prefixes the message with what was being attempted; keeps the code.
absl::Status Annotate(const absl::Status& status, std::string_view doing);

// The status for a failed system call: "open /data/x: Permission denied", under the code a caller can act
// on (NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED for a full disk, ...).
absl::Status ErrnoStatus(int error_number, std::string_view doing);

}  // namespace bdh
