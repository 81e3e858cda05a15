// The gate of a pass as an operation of LibTorch's autograd.
#pragma once

#include <torch/torch.h>

namespace bdh::model {

// dropout(active * relu(gate)). On the CPU in float32 by gate_kernels, which draw from `generator` or,
// without one, from LibTorch's own; elsewhere by LibTorch's ops.
torch::Tensor Gate(const torch::Tensor& active, const torch::Tensor& gate, double dropout_rate,
                   const c10::optional<at::Generator>& generator = c10::nullopt);

}  // namespace bdh::model
