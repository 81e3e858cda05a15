// The LibTorch module against a golden file.
#pragma once

#include <vector>

#include "services/lab/golden_file.h"
#include "services/lab/report.h"

namespace bdh::lab {

// Runs every check the file has numbers for. LibTorch's own exceptions (no memory, ...) pass through.
std::vector<Check> CheckModel(const GoldenFile& golden);

}  // namespace bdh::lab
