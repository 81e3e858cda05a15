#pragma once

#include <vector>

#include "bdh/kernels/kernels.h"

namespace bdh::kernels {

// One for each instruction set that is compiled in and runs here, the fastest one last.
std::vector<const Kernels*> SimdKernels();

}  // namespace bdh::kernels
