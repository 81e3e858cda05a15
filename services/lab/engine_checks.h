// libs/engine, the recurrent decoder without LibTorch, against a golden file.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "services/lab/golden_file.h"
#include "services/lab/report.h"

namespace bdh::lab {

// Runs the checks of logits and greedy tokens, each if the file has numbers for it.
absl::StatusOr<std::vector<Check>> CheckEngine(const GoldenFile& golden);

}  // namespace bdh::lab
