#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "schema.h"

namespace bdh::config {

// Applies the BDH_* variables that belong to the schema. One that begins like a section and matches no field
// is an error; others are none of our business.
absl::Status ApplyEnvironment(const std::map<std::string, std::string>& environment, Message& out);

}  // namespace bdh::config
