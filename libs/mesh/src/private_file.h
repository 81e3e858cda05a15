#pragma once

#include <string>

#include "absl/status/status.h"

namespace bdh::mesh {

// OK when a file with a secret, named by the configuration's `key`, is closed to strangers. Group is allowed:
// Kubernetes mounts secrets as 0640 for fsGroup.
absl::Status CheckPrivate(const std::string& key, const std::string& file);

}  // namespace bdh::mesh
