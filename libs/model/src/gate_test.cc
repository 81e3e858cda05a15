// The gate in one pass gives what LibTorch's ops give, and drops what it says it drops.

#include "gate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gate_kernels.h"

namespace bdh::model {
namespace {

class GateTest : public ::testing::Test {
 protected:
  GateTest() { torch::manual_seed(11); }

  static torch::Tensor Leaf(const torch::Tensor& values) { return values.clone().requires_grad_(); }
};

TEST_F(GateTest, EqualsTheOpsItReplacesForwardAndBackward) {
  for (int64_t size :
       {1, 3, 4095, 4096, 4097, 100'000}) {  // One element, and around a block and many of them.
    const auto active = torch::relu(torch::randn({size})), gate = torch::randn({size}),
               push = torch::randn({size});
    const auto a1 = Leaf(active), g1 = Leaf(gate), a2 = Leaf(active), g2 = Leaf(gate);
    const auto fused = Gate(a1, g1, 0), plain = a2 * g2.relu();
    fused.backward(push);
    plain.backward(push);
    EXPECT_TRUE(torch::equal(fused, plain)) << size;
    EXPECT_TRUE(torch::equal(a1.grad(), a2.grad())) << size;
    EXPECT_TRUE(torch::equal(g1.grad(), g2.grad())) << size;
  }
}

TEST_F(GateTest, TakesGradientsAndTensorsThatAreNotContiguous) {
  const auto a1 = Leaf(torch::rand({20, 30})), g1 = Leaf(torch::randn({20, 30}));
  const auto a2 = Leaf(a1.detach()), g2 = Leaf(g1.detach());
  Gate(a1, g1, 0).sum().backward();  // The gradient of a sum is one number, expanded.
  Gate(a2.t(), g2.t(), 0).sum().backward();
  EXPECT_TRUE(torch::equal(a1.grad(), a2.grad()));
  EXPECT_TRUE(torch::equal(g1.grad(), g2.grad()));
}

TEST_F(GateTest, DropsTheShareItIsToldToAndKeepsTheMean) {
  for (double rate : {0.05, 0.1, 0.5, 0.9}) {
    const int64_t size = 1'000'000;
    const auto ones = torch::ones({size});
    const auto product = Gate(ones, ones, rate);
    const double deviation = std::sqrt(rate * (1 - rate) / size);
    EXPECT_NEAR((product == 0).to(torch::kFloat64).mean().item<double>(), rate, 5 * deviation + 1e-5);
    EXPECT_NEAR(product.to(torch::kFloat64).mean().item<double>(), 1, 5 * deviation / (1 - rate) + 1e-5);
    const auto kept = product.masked_select(product > 0);
    EXPECT_EQ(kept.min().item<float>(), kept.max().item<float>());
  }
}

TEST_F(GateTest, NeighboursAndBlocksAreDroppedIndependently) {
  const int64_t size = 1 << 20;
  const auto ones = torch::ones({size});
  const auto dropped = (Gate(ones, ones, 0.5) == 0).to(torch::kFloat64) - 0.5;
  for (int64_t distance : {1, 2, 4, 64, 4096, 8192}) {
    const auto product = dropped.slice(0, distance) * dropped.slice(0, 0, size - distance);
    EXPECT_NEAR(4 * product.mean().item<double>(), 0, 5 / std::sqrt(size)) << distance;
  }
}

TEST_F(GateTest, BackwardDropsWhatForwardDropped) {
  const auto active = Leaf(torch::rand({10'000}) + 1), gate = Leaf(torch::rand({10'000}) + 1);
  const auto product = Gate(active, gate, 0.3);
  product.sum().backward();
  EXPECT_TRUE(torch::allclose(active.grad() * active, product));
  EXPECT_TRUE(torch::allclose(gate.grad() * gate, product));
}

TEST_F(GateTest, TheGeneratorDecidesAndMovesOn) {
  const auto ones = torch::ones({10'000});
  torch::manual_seed(5);
  const auto first = Gate(ones, ones, 0.5), second = Gate(ones, ones, 0.5);
  torch::manual_seed(5);
  EXPECT_TRUE(torch::equal(Gate(ones, ones, 0.5), first));
  EXPECT_FALSE(torch::equal(first, second));
}

TEST_F(GateTest, ThreadsChangeNothing) {
  const auto active = torch::rand({300'000}), gate = torch::randn({300'000});
  const int threads = at::get_num_threads();
  torch::manual_seed(5);
  at::set_num_threads(1);
  const auto one = Gate(active, gate, 0.1);
  torch::manual_seed(5);
  at::set_num_threads(3);
  const auto three = Gate(active, gate, 0.1);
  at::set_num_threads(threads);
  EXPECT_TRUE(torch::equal(one, three));
}

TEST_F(GateTest, ANumberThatIsNoneStaysVisible) {
  const float nan = std::nanf("");
  EXPECT_TRUE(Gate(torch::tensor({0.0f}), torch::tensor({nan}), 0).isnan().item<bool>());
  EXPECT_TRUE(Gate(torch::tensor({nan}), torch::tensor({-1.0f}), 0).isnan().item<bool>());
}

TEST_F(GateTest, OtherTypesGoThroughTheOpsOfLibTorch) {
  const auto active = torch::rand({100}, torch::kFloat64), gate = torch::randn({100}, torch::kFloat64);
  EXPECT_TRUE(torch::equal(Gate(active, gate, 0), active * gate.relu()));
  EXPECT_GT((Gate(active, gate.abs(), 0.5) == 0).sum().item<int64_t>(), 10);
}

}  // namespace
}  // namespace bdh::model
