#include "gate.h"

#include <limits>
#include <span>

#include "gate_kernels.h"

namespace bdh::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

std::span<float> Span(const torch::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

// From LibTorch's generator, so that its seed and state decide dropout as they decide everything else.
int64_t DrawSeed(const c10::optional<at::Generator>& generator) {
  return torch::randint(std::numeric_limits<int64_t>::max(), {}, generator, torch::kInt64).item<int64_t>();
}

class FusedGate : public torch::autograd::Function<FusedGate> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& active,
                               const torch::Tensor& gate, double rate, int64_t seed) {
    context->save_for_backward({active, gate});
    context->saved_data["rate"] = rate;
    context->saved_data["seed"] = seed;
    torch::Tensor product = torch::empty_like(active);
    GateForward({rate, static_cast<uint64_t>(seed)}, Span(active), Span(gate), Span(product));
    return product;
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const Dropout dropout{context->saved_data["rate"].toDouble(),
                          static_cast<uint64_t>(context->saved_data["seed"].toInt())};
    const torch::Tensor product_gradient = gradients[0].contiguous();
    torch::Tensor active_gradient = torch::empty_like(saved[0]), gate_gradient = torch::empty_like(saved[1]);
    GateBackward(dropout, Span(saved[0]), Span(saved[1]), Span(product_gradient), Span(active_gradient),
                 Span(gate_gradient));
    return {active_gradient, gate_gradient, torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor Gate(const torch::Tensor& active, const torch::Tensor& gate, double dropout_rate,
                   const c10::optional<at::Generator>& generator) {
  const bool fused = active.is_cpu() && active.scalar_type() == torch::kFloat32 && active.is_contiguous() &&
                     gate.is_contiguous() && active.sizes() == gate.sizes();
  if (!fused) return torch::dropout(active * gate.relu(), dropout_rate, /*train=*/dropout_rate > 0);
  return FusedGate::apply(active, gate, dropout_rate, dropout_rate > 0 ? DrawSeed(generator) : 0);
}

}  // namespace bdh::model
