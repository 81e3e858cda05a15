#include "services/lab/bench_oracle.h"

#include <chrono>

#include "bdh/model/bdh.h"

namespace bdh::lab {

Oracle TorchOracle(const BenchModel& weights, int threads) {
  torch::set_num_threads(threads);
  torch::NoGradGuard no_grad;
  model::Bdh model(weights.config);
  for (auto& item : model->named_parameters()) {
    const Array<float>& array = weights.weights.at(item.key());
    item.value().copy_(torch::tensor(array.values).view(array.shape));
  }
  model->eval();
  return [model](const std::vector<int32_t>& tokens) mutable {
    torch::NoGradGuard no_grad;
    const std::vector<int64_t> prefix(tokens.begin(), tokens.end());
    const auto start = std::chrono::steady_clock::now();
    const torch::Tensor logits = model->forward(torch::tensor(prefix).unsqueeze(0));
    const int64_t next = logits.select(1, -1).argmax().item<int64_t>();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return next >= 0 ? seconds : 0;
  };
}

}  // namespace bdh::lab
