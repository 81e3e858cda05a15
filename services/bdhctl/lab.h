// bdh-lab, the one tool that links LibTorch, for commands that need it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace bdh::bdhctl {

// Becomes bdh-lab with these arguments, so its output and its exit code are ours. Returns only when it cannot
// be run.
absl::Status BecomeLab(const std::vector<std::string>& arguments);

// The same with another program that stands beside bdhctl.
absl::Status BecomeProgram(const std::string& name, const std::vector<std::string>& arguments);

}  // namespace bdh::bdhctl
