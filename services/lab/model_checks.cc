#include "services/lab/model_checks.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "absl/strings/str_format.h"
#include "bdh/model/bdh.h"
#include "bdh/training/adamw.h"
#include "services/lab/tolerance.h"

namespace bdh::lab {
namespace {

torch::Tensor ToTensor(const Array<float>& array) {
  return torch::tensor(array.values).view(array.shape);
}
torch::Tensor ToTensor(const Array<int64_t>& array) {
  return torch::tensor(array.values).view(array.shape);
}

std::span<float> Span(const torch::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

std::vector<float> Values(const torch::Tensor& tensor) {
  const torch::Tensor flat = tensor.detach().contiguous();
  const auto span = Span(flat);
  return {span.begin(), span.end()};
}

model::Bdh LoadModel(const GoldenFile& golden) {
  torch::NoGradGuard no_grad;
  model::Bdh model(golden.config);
  for (auto& item : model->named_parameters()) item.value().copy_(ToTensor(golden.weights.at(item.key())));
  model->named_buffers()[spec::kFrequenciesName].copy_(torch::tensor(golden.frequencies));
  return model;
}

void CheckEvaluation(const GoldenFile& golden, std::vector<Check>& checks) {
  if (golden.tokens.values.empty()) return;
  model::Bdh model = LoadModel(golden);
  const torch::Tensor logits = model->forward(ToTensor(golden.tokens));
  if (golden.logits) {
    checks.push_back(
        CompareRelative("model logits", Values(logits), *golden.logits, kLogitsTolerance, "logit"));
  }
  if (!golden.targets) return;
  const torch::Tensor loss = model::Loss(logits, ToTensor(*golden.targets));
  if (golden.loss) {
    checks.push_back(CompareAbsolute("model loss", loss.item<double>(), *golden.loss, kLossTolerance));
  }
  if (golden.gradients.empty()) return;
  loss.backward();
  for (const auto& item : model->named_parameters()) {
    checks.push_back(CompareRelative(absl::StrFormat("model gradient %s", item.key()),
                                     Values(item.value().grad()), golden.gradients.at(item.key()).values,
                                     kGradientTolerance, "gradient"));
  }
}

// The whole text again for every token, as the reference generates.
void CheckGreedy(const GoldenFile& golden, std::vector<Check>& checks) {
  if (golden.greedy.empty()) return;
  torch::NoGradGuard no_grad;
  model::Bdh model = LoadModel(golden);
  model->eval();
  std::vector<int64_t> tokens(golden.greedy.begin(), golden.greedy.begin() + golden.prompt_length);
  while (tokens.size() < golden.greedy.size()) {
    const torch::Tensor logits = model->forward(torch::tensor(tokens).unsqueeze(0));
    tokens.push_back(logits.select(1, -1).argmax().item<int64_t>());
  }
  checks.push_back(CompareTokens("model greedy tokens", tokens, golden.greedy, golden.prompt_length));
}

// One parameter and what AdamW remembers of it.
struct Trained {
  torch::Tensor weight, exp_avg, exp_avg_sq;
};

void CheckTraining(const GoldenFile& golden, std::vector<Check>& checks) {
  if (!golden.training) return;
  const TrainingRun& run = *golden.training;
  model::Bdh model = LoadModel(golden);
  std::vector<Trained> parameters;
  for (const auto& weight : model->parameters()) {
    parameters.push_back({weight, torch::zeros_like(weight), torch::zeros_like(weight)});
  }
  const torch::Tensor batches = ToTensor(run.batches);
  const int64_t length = batches.size(2) - 1;
  for (int64_t i = 0; i < batches.size(0); ++i) {
    const auto inputs = batches[i].narrow(1, 0, length), targets = batches[i].narrow(1, 1, length);
    const torch::Tensor loss = model::Loss(model->forward(inputs), targets);
    checks.push_back(CompareAbsolute(absl::StrFormat("training loss at step %d", i + 1), loss.item<double>(),
                                     run.losses[i], kStepLossTolerance));
    model->zero_grad();
    loss.backward();
    const training::AdamWStep step{.learning_rate = run.learning_rate,
                                   .beta1 = run.beta1,
                                   .beta2 = run.beta2,
                                   .eps = run.eps,
                                   .weight_decay = run.weight_decay,
                                   .step = i + 1};
    for (const Trained& parameter : parameters) {
      const torch::Tensor gradient = parameter.weight.grad().contiguous();
      training::ApplyAdamW(step, Span(parameter.weight), Span(gradient), Span(parameter.exp_avg),
                           Span(parameter.exp_avg_sq));
    }
  }
  if (run.trained.empty()) return;
  for (const auto& item : model->named_parameters()) {
    Check check = CompareRelative(absl::StrFormat("trained %s", item.key()), Values(item.value()),
                                  run.trained.at(item.key()).values, 0, "weight");
    // AdamW steps by about the learning rate however small a gradient is, so where rounding decides a
    // gradient's sign it decides one step.
    check.tolerance = run.learning_rate;
    check.note = "tolerance is one step of the learning rate";
    checks.push_back(std::move(check));
  }
}

// Positions whose likeliest token is another one. A model that has learnt little wavers between many.
Check CompareLikeliest(const std::string& name, const torch::Tensor& got, const torch::Tensor& want) {
  const auto differ = got.argmax(-1).ne(want.argmax(-1)).sum().item<int64_t>();
  const int64_t positions = want.numel() / want.size(-1);
  return {name, static_cast<double>(differ),
          std::ceil(kBf16LikeliestTolerance * static_cast<double>(positions)),
          absl::StrFormat("of %d positions have another likeliest token", positions)};
}

void CheckInBf16(const GoldenFile& golden, const std::string& what, model::Bdh model, double tolerance,
                 std::vector<Check>& checks) {
  const torch::Tensor logits = model->forward(ToTensor(golden.tokens));
  if (golden.logits) {
    const auto want = torch::tensor(*golden.logits).view(logits.sizes());
    checks.push_back(CompareRelative(what + ": logits", Values(logits), *golden.logits, tolerance, "logit"));
    checks.push_back(CompareLikeliest(what + ": likeliest tokens", logits, want));
  }
  if (golden.loss && golden.targets) {
    const double loss = model::Loss(logits, ToTensor(*golden.targets)).item<double>();
    checks.push_back(CompareAbsolute(what + ": loss", loss, *golden.loss, kBf16LossTolerance));
  }
}

}  // namespace

std::vector<Check> CheckModelInBf16(const GoldenFile& golden) {
  std::vector<Check> checks;
  if (golden.tokens.values.empty()) return checks;
  torch::NoGradGuard no_grad;
  model::Bdh rounded = LoadModel(golden);
  rounded->set_weight_type(torch::kBFloat16);
  rounded->set_weight_type(torch::kFloat32);
  CheckInBf16(golden, "bf16 weights", rounded, kBf16WeightsTolerance, checks);
  model::Bdh narrow = LoadModel(golden);
  narrow->set_weight_type(torch::kBFloat16);
  CheckInBf16(golden, "bf16 weights and products", narrow, kBf16ProductsTolerance, checks);
  return checks;
}

std::vector<Check> CheckModel(const GoldenFile& golden) {
  std::vector<Check> checks;
  CheckEvaluation(golden, checks);
  CheckGreedy(golden, checks);
  CheckTraining(golden, checks);
  return checks;
}

}  // namespace bdh::lab
