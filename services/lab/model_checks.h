// The LibTorch module against a golden file.
#pragma once

#include <vector>

#include "services/lab/golden_file.h"
#include "services/lab/report.h"

namespace bdh::lab {

// Runs every check the file has numbers for. LibTorch's own exceptions (no memory, ...) pass through.
std::vector<Check> CheckModel(const GoldenFile& golden);

// How far the module is from the reference's float32 with bfloat16 weights: once with the weights rounded and
// float32 arithmetic, once with bfloat16 products too.
std::vector<Check> CheckModelInBf16(const GoldenFile& golden);

}  // namespace bdh::lab
