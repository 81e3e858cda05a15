// The module equals the reference. Its numbers are compared with a plain transcription of the official
// bdh.py, op for op as that file writes it, in forward and backward; tests/golden compares both with the
// official numbers.

#include "bdh/model/bdh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numbers>

namespace bdh::model {
namespace {

spec::ModelConfig TinyConfig() {
  return {.n_layer = 3,
          .n_embd = 24,
          .n_head = 3,
          .mlp_internal_dim_multiplier = 10,
          .vocab_size = 40,
          .dropout = 0};
}

// bdh.py, without dropout.
class Reference {
 public:
  explicit Reference(BdhImpl& model) : config_(model.config()) {
    for (const auto& item : model.named_parameters()) weights_[item.key()] = item.value();
  }

  torch::Tensor Forward(const torch::Tensor& tokens) {
    const int64_t batch = tokens.size(0), length = tokens.size(1);
    const int64_t neurons = config_.neurons_per_head() * config_.n_head;
    auto x = Norm(torch::embedding(weights_["embed.weight"], tokens).unsqueeze(1));
    for (int layer = 0; layer < config_.n_layer; ++layer) {
      const auto x_sparse = torch::relu(torch::matmul(x, weights_["encoder"]));
      const auto y_kv = Norm(Attend(x_sparse, x));
      const auto y_sparse = torch::relu(torch::matmul(y_kv, weights_["encoder_v"]));
      const auto xy_sparse = x_sparse * y_sparse;
      const auto y_mlp =
          torch::matmul(xy_sparse.transpose(1, 2).reshape({batch, 1, length, neurons}), weights_["decoder"]);
      x = Norm(x + Norm(y_mlp));
    }
    return torch::matmul(x.view({batch, length, -1}), weights_["lm_head"]);
  }

  static torch::Tensor Frequencies(int64_t n) {
    const auto even = torch::floor(torch::arange(n, torch::kFloat32) / 2) * 2;
    return 1.0 / torch::pow(std::pow(2.0, 16), even / n) / (2 * std::numbers::pi);
  }

 private:
  static torch::Tensor Norm(const torch::Tensor& x) { return torch::layer_norm(x, {x.size(-1)}); }

  static torch::Tensor Rope(const torch::Tensor& phases, const torch::Tensor& v) {
    using torch::indexing::None;
    using torch::indexing::Slice;
    const auto odd = v.index({"...", Slice(1, None, 2)}), even = v.index({"...", Slice(0, None, 2)});
    const auto turned = torch::stack({-odd, even}, -1).view(v.sizes());
    const auto radians = torch::remainder(phases, 1) * (2 * std::numbers::pi);
    return v * torch::cos(radians) + turned * torch::sin(radians);
  }

  static torch::Tensor Attend(const torch::Tensor& q, const torch::Tensor& v) {
    const auto positions = torch::arange(q.size(2), torch::kFloat32).view({1, 1, -1, 1});
    const auto rotated = Rope(positions * Frequencies(q.size(3)), q);
    return torch::matmul(torch::matmul(rotated, rotated.transpose(-2, -1)).tril(-1), v);
  }

  spec::ModelConfig config_;
  std::map<std::string, torch::Tensor> weights_;
};

std::map<std::string, torch::Tensor> Gradients(BdhImpl& model, const torch::Tensor& loss) {
  model.zero_grad();
  loss.backward();
  std::map<std::string, torch::Tensor> gradients;
  for (const auto& item : model.named_parameters()) gradients[item.key()] = item.value().grad().clone();
  return gradients;
}

void ExpectClose(const torch::Tensor& got, const torch::Tensor& want, double relative,
                 const std::string& what) {
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  EXPECT_LE((got - want).abs().max().item<double>(), relative * want.abs().max().item<double>()) << what;
}

class BdhTest : public ::testing::Test {
 protected:
  BdhTest() { torch::manual_seed(7); }
  torch::Tensor Tokens(int64_t batch, int64_t length) {
    return torch::randint(TinyConfig().vocab_size, {batch, length}, torch::kInt64);
  }
};

TEST_F(BdhTest, LogitsAndGradientsEqualTheReference) {
  Bdh model(TinyConfig());
  // Wider than at initialisation, so that the sparsity and the scores are not those of noise.
  for (auto& parameter : model->parameters()) parameter.data().mul_(5);
  Reference reference(*model);
  const auto tokens = Tokens(2, 33), targets = Tokens(2, 33);
  const auto logits = model->forward(tokens), expected = reference.Forward(tokens);
  ExpectClose(logits, expected, 1e-5, "logits");
  const auto got = Gradients(*model, Loss(logits, targets));
  for (const auto& [name, gradient] : Gradients(*model, Loss(expected, targets))) {
    ExpectClose(got.at(name), gradient, 1e-4, name);
  }
}

TEST_F(BdhTest, ParametersHaveTheNamesAndShapesOfTheSpec) {
  Bdh model(TinyConfig());
  const auto parameters = model->named_parameters();
  const auto weights = spec::Weights(TinyConfig());
  ASSERT_EQ(parameters.size(), weights.size());
  for (const auto& weight : weights) {
    ASSERT_TRUE(parameters.contains(weight.name)) << weight.name;
    EXPECT_EQ(parameters[weight.name].sizes(), torch::IntArrayRef(weight.shape)) << weight.name;
    EXPECT_NEAR(parameters[weight.name].std().item<double>(), 0.02, 0.002) << weight.name;
  }
  ASSERT_EQ(model->named_buffers().size(), 1u);
  EXPECT_EQ(model->named_buffers()[0].key(), spec::kFrequenciesName);
}

TEST_F(BdhTest, FrequenciesAreThoseTorchComputes) {
  for (int64_t n : {2, 6, 128, 256, 1000, 8192, 32768}) {
    const auto ours = torch::tensor(spec::RopeFrequencies(n)), torchs = Reference::Frequencies(n);
    // torch's vectorised power may be the float beside the nearest one; everything after it rounds the same.
    EXPECT_LE(((ours - torchs) / torchs).abs().max().item<double>(), 2.5e-7) << n;
    EXPECT_GE((ours == torchs).sum().item<int64_t>(), n - n / 50) << n;
  }
}

TEST_F(BdhTest, NothingSeesWhatComesAfterIt) {
  Bdh model(TinyConfig());
  const auto tokens = Tokens(1, 20);
  auto changed = tokens.clone();
  changed.slice(1, 12) = (changed.slice(1, 12) + 1).remainder(TinyConfig().vocab_size);
  const auto before = model->forward(tokens), after = model->forward(changed);
  ExpectClose(after.slice(1, 0, 12), before.slice(1, 0, 12), 1e-6, "the first 12 positions");
  EXPECT_GT((after - before).slice(1, 12).abs().max().item<double>(), 1e-3);
}

TEST_F(BdhTest, ASequenceGivesTheSameInAnyBatchAndAfterAnyOtherLength) {
  Bdh model(TinyConfig());
  const auto tokens = Tokens(3, 16);
  const auto alone = model->forward(tokens.slice(0, 1, 2));
  model->forward(Tokens(1, 40));  // The rotations are kept from here.
  ExpectClose(model->forward(tokens).slice(0, 1, 2), alone, 1e-6, "row 1");
}

TEST_F(BdhTest, DropoutActsInTrainingOnly) {
  spec::ModelConfig config = TinyConfig();
  config.dropout = 0.5;
  Bdh model(config);
  const auto tokens = Tokens(1, 16);
  model->eval();
  const auto still = model->forward(tokens);
  EXPECT_TRUE(torch::equal(model->forward(tokens), still));
  ExpectClose(still, Reference(*model).Forward(tokens), 1e-5, "evaluation");
  model->train();
  EXPECT_FALSE(torch::equal(model->forward(tokens), still));
}

TEST_F(BdhTest, OneSeedGivesOneModel) {
  torch::manual_seed(3);
  Bdh first(TinyConfig());
  torch::manual_seed(3);
  Bdh second(TinyConfig());
  const auto tokens = Tokens(1, 8);
  EXPECT_TRUE(torch::equal(first->forward(tokens), second->forward(tokens)));
}

TEST_F(BdhTest, Bf16IsNearAndItsFrequenciesAreWhole) {
  Bdh model(TinyConfig());
  const auto tokens = Tokens(2, 33);
  const auto exact = model->forward(tokens);
  const auto frequencies = model->named_buffers()[spec::kFrequenciesName].clone();
  model->set_weight_type(torch::kBFloat16);
  EXPECT_EQ(model->named_parameters()["encoder"].scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(torch::equal(model->named_buffers()[spec::kFrequenciesName], frequencies));
  const auto near = model->forward(tokens);
  EXPECT_EQ(near.scalar_type(), torch::kFloat32);
  EXPECT_FALSE(torch::equal(near, exact));
  ExpectClose(near, exact, 0.05, "logits");
  Loss(near, tokens).backward();
  EXPECT_TRUE(model->named_parameters()["decoder"].grad().isfinite().all().item<bool>());
}

TEST_F(BdhTest, RefusesWhatIsNoBatchOfTokens) {
  Bdh model(TinyConfig());
  EXPECT_THROW(model->forward(torch::zeros({4}, torch::kInt64)), c10::Error);
  EXPECT_THROW(model->forward(torch::zeros({1, 0}, torch::kInt64)), c10::Error);
  EXPECT_ANY_THROW(model->forward(torch::full({1, 4}, TinyConfig().vocab_size, torch::kInt64)));
}

TEST_F(BdhTest, LossIsTheMeanNegativeLogLikelihood) {
  const auto logits = torch::randn({2, 3, 5});
  const auto targets = torch::randint(5, {2, 3}, torch::kInt64);
  const auto picked = torch::log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1));
  EXPECT_NEAR(Loss(logits, targets).item<double>(), -picked.mean().item<double>(), 1e-6);
}

}  // namespace
}  // namespace bdh::model
