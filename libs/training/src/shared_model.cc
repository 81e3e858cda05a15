#include "shared_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "bdh/training/adamw.h"
#include "bdh/training/machine.h"

namespace bdh::training {
namespace {

constexpr int64_t kAlignment = 16;  // Floats: no two workers write to one cache line.

// Where the share of `worker` of `count` begins.
int64_t Begin(int64_t count, int worker, int workers, int64_t alignment = 1) {
  if (worker == workers) return count;
  return count * worker / workers / alignment * alignment;
}

void UseThreads(int threads) {
  torch::set_num_threads(threads);
  SetBlasThreads(threads);
}

// Makes `module` compute with the tensors of `owner`.
void Share(model::BdhImpl& module, const model::BdhImpl& owner) {
  const auto mine = module.named_parameters(), theirs = owner.named_parameters();
  for (const auto& item : mine) item.value().set_data(theirs[item.key()].detach());
  const auto my_buffers = module.named_buffers(), their_buffers = owner.named_buffers();
  for (const auto& item : my_buffers) item.value().set_data(their_buffers[item.key()]);
}

}  // namespace

SharedModel::SharedModel(const spec::ModelConfig& config, int workers, int threads_each)
    : threads_each_(threads_each), team_(workers, [threads_each] { UseThreads(threads_each); }) {
  replicas_.emplace_back(config);
  model::BdhImpl& first = *replicas_[0];
  const at::Generator default_generator = at::detail::getDefaultCPUGenerator();
  const torch::Tensor state = default_generator.get_state();
  for (int worker = 1; worker < workers; ++worker) {
    model::Bdh& replica = replicas_.emplace_back(config);
    Share(*replica, first);
    generators_.push_back(at::detail::createCPUGenerator());
    replica->set_generator(generators_.back());
  }
  at::Generator(default_generator).set_state(state);  // As if the replicas had drawn nothing.
  for (const auto& item : first.named_parameters()) {
    TORCH_CHECK(item.value().is_contiguous() && item.value().scalar_type() == torch::kFloat32, item.key());
    parameters_.push_back({item.key(), item.value().detach(), {}});
  }
  frequencies_ = first.named_buffers()["attn.freqs"];
}

torch::Tensor SharedModel::ShareOfLoss(int worker, const torch::Tensor& sequences) {
  const int64_t rows = sequences.size(0);
  const int64_t begin = Begin(rows, worker, team_.size()), end = Begin(rows, worker + 1, team_.size());
  const torch::Tensor mine = sequences.slice(0, begin, end);
  const torch::Tensor inputs = mine.slice(1, 0, -1).contiguous(), targets = mine.slice(1, 1).contiguous();
  const torch::Tensor loss = model::Loss(replicas_[static_cast<size_t>(worker)]->forward(inputs), targets);
  return loss * (static_cast<double>(end - begin) / static_cast<double>(rows));
}

double SharedModel::Loss(const torch::Tensor& sequences) {
  UseThreads(threads_each_);
  std::vector<double> shares(static_cast<size_t>(team_.size()));
  team_.Run([&](int worker) {
    const torch::NoGradGuard no_grad;
    replicas_[static_cast<size_t>(worker)]->eval();
    shares[static_cast<size_t>(worker)] = ShareOfLoss(worker, sequences).item<double>();
  });
  double loss = 0;
  for (const double share : shares) loss += share;
  return loss;
}

double SharedModel::LossAndGradients(const torch::Tensor& sequences) {
  UseThreads(threads_each_);
  for (Parameter& parameter : parameters_) parameter.gradients.clear();  // Room for the new ones.
  // Drawn here, in order, so that the state of one generator tells all that dropout will ever do.
  for (at::Generator& generator : generators_) {
    const auto seed = torch::randint(std::numeric_limits<int64_t>::max(), {}, torch::kInt64).item<int64_t>();
    generator.set_current_seed(static_cast<uint64_t>(seed));
  }
  std::vector<double> shares(static_cast<size_t>(team_.size()));
  team_.Run([&](int worker) {
    model::Bdh& replica = replicas_[static_cast<size_t>(worker)];
    replica->train();
    for (torch::Tensor& parameter : replica->parameters()) parameter.mutable_grad().reset();
    const torch::Tensor share = ShareOfLoss(worker, sequences);
    double& value = shares[static_cast<size_t>(worker)];
    value = share.item<double>();
    if (std::isfinite(value)) share.backward();
  });
  double loss = 0;
  for (const double share : shares) loss += share;
  if (std::isfinite(loss)) SumGradients();
  return loss;
}

void SharedModel::SumGradients() {
  for (Parameter& parameter : parameters_) {
    parameter.gradients.clear();
    for (model::Bdh& replica : replicas_) {
      const auto named = replica->named_parameters();
      parameter.gradients.push_back(named[parameter.name].grad().contiguous());
    }
  }
  if (team_.size() == 1) return;
  ForSlices([](Parameter& parameter, int64_t begin, int64_t end) {
    float* const sum = parameter.gradients[0].data_ptr<float>();
    for (size_t worker = 1; worker < parameter.gradients.size(); ++worker) {
      const float* const more = parameter.gradients[worker].data_ptr<float>();
      for (int64_t i = begin; i < end; ++i) sum[i] += more[i];
    }
  });
}

void SharedModel::ForSlices(const std::function<void(Parameter&, int64_t, int64_t)>& update) {
  team_.Run([&](int worker) {
    for (Parameter& parameter : parameters_) {
      const int64_t count = parameter.weight.numel();
      const int64_t begin = Begin(count, worker, team_.size(), kAlignment);
      const int64_t end = Begin(count, worker + 1, team_.size(), kAlignment);
      if (begin < end) update(parameter, begin, end);
    }
  });
}

double SharedModel::GradientSquare() {
  std::vector<double> squares(static_cast<size_t>(team_.size()));
  team_.Run([&](int worker) {
    for (const Parameter& parameter : parameters_) {
      const int64_t count = parameter.weight.numel();
      const int64_t begin = Begin(count, worker, team_.size(), kAlignment);
      const int64_t end = Begin(count, worker + 1, team_.size(), kAlignment);
      const float* const gradient = parameter.gradients[0].data_ptr<float>();
      squares[static_cast<size_t>(worker)] +=
          SumOfSquares({gradient + begin, static_cast<size_t>(end - begin)});
    }
  });
  double sum = 0;
  for (const double square : squares) sum += square;
  return sum;
}

}  // namespace bdh::training
