// The reference's way of generating, in LibTorch: every token is a pass over all tokens before it.
#pragma once

#include "services/lab/bench.h"

namespace bdh::lab {

Oracle TorchOracle(const BenchModel& model, int threads);

}  // namespace bdh::lab
