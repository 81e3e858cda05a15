// A model that several threads train at once, each on its share of a batch's rows.
//
// A step of a small model is hundreds of short operations. Splitting each of them over the threads makes the
// threads wait for each other hundreds of times; splitting the batch makes them wait once.
#pragma once

// First: without it, clang does not compile LibTorch 1.13's headers as C++20.
#include <ATen/core/ivalue.h>
#include <torch/torch.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bdh/model/bdh.h"
#include "team.h"

namespace bdh::training {

class SharedModel {
 public:
  // `workers` threads, each with `threads_each` of the math library's own. Weights are drawn from LibTorch's
  // default generator; with one worker everything is as if the model were used alone.
  SharedModel(const spec::ModelConfig& config, int workers, int threads_each);

  struct Parameter {
    std::string name;
    torch::Tensor weight;                  // One for all workers.
    std::vector<torch::Tensor> gradients;  // One a worker; the first holds the sum after LossAndGradients.
  };
  std::vector<Parameter>& parameters() { return parameters_; }
  const torch::Tensor& frequencies() const { return frequencies_; }

  // Mean loss over sequences [B, T + 1], B at least the number of workers. Errors of LibTorch are thrown.
  double Loss(const torch::Tensor& sequences);
  // The same in training mode, and the gradients of it. If the loss is not finite there are none.
  double LossAndGradients(const torch::Tensor& sequences);

  // Sum of squares of the gradients.
  double GradientSquare();

  // Calls update(parameter, begin, end), so that every number of every parameter is in one of the calls.
  void ForSlices(const std::function<void(Parameter&, int64_t, int64_t)>& update);

 private:
  // This worker's share of the loss: rows of `sequences`, weighted by their number.
  torch::Tensor ShareOfLoss(int worker, const torch::Tensor& sequences);
  void SumGradients();

  const int threads_each_;
  std::vector<model::Bdh> replicas_;  // One a worker, on the same weights.
  std::vector<at::Generator> generators_;
  std::vector<Parameter> parameters_;
  torch::Tensor frequencies_;
  Team team_;
};

}  // namespace bdh::training
