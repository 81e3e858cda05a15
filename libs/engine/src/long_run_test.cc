// Proves that a long session stays near the truth: in precise mode the engine's logits are compared, all
// along, with the same recurrence in double precision. Prints the largest error. BDH_LONG_RUN_TOKENS (20,000
// unless set; `make soak` sets 200,000) says how long.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numbers>

#include "bdh/engine/bdh_model.h"
#include "bdh/testing/status_matchers.h"
#include "random_weights.h"

namespace bdh::engine {
namespace {

constexpr double kTolerance =
    1e-3;  // Of the largest logit: rho is a sum of as many fp32 terms as there are tokens.

// The definition of the model, a token at a time, in double.
class DoubleOracle {
 public:
  DoubleOracle(const spec::ModelConfig& config, Weights& weights)
      : config_(config),
        embed_(weights.values("embed.weight")),
        encoder_(weights.values("encoder")),
        gate_(weights.values("encoder_v")),
        decoder_(weights.values("decoder")),
        lm_head_(weights.values("lm_head")),
        frequencies_(spec::RopeFrequencies(config.neurons_per_head())),
        rho_(config.n_layer * config.neurons() * config.n_embd) {}

  std::vector<double> Step(int32_t token) {
    const int64_t width = config_.n_embd, per_head = config_.neurons_per_head();
    std::vector<double> x(embed_.begin() + token * width, embed_.begin() + (token + 1) * width);
    Norm(x);
    for (int layer = 0; layer < config_.n_layer; ++layer) {
      std::vector<double> written(width);
      for (int head = 0; head < config_.n_head; ++head) {
        Head(head, x, &rho_[(layer * config_.n_head + head) * per_head * width], written);
      }
      Norm(written);
      for (int64_t i = 0; i < width; ++i) x[i] += written[i];
      Norm(x);
    }
    ++position_;
    std::vector<double> logits(config_.vocab_size);
    for (int64_t i = 0; i < width; ++i) {
      for (int v = 0; v < config_.vocab_size; ++v) logits[v] += x[i] * lm_head_[i * config_.vocab_size + v];
    }
    return logits;
  }

 private:
  void Head(int head, const std::vector<double>& x, double* rho, std::vector<double>& written) {
    const int64_t width = config_.n_embd, per_head = config_.neurons_per_head();
    std::vector<double> a(per_head), key(per_head), read(width);
    for (int64_t i = 0; i < width; ++i) {
      const float* row = &encoder_[(head * width + i) * per_head];
      for (int64_t n = 0; n < per_head; ++n) a[n] += x[i] * row[n];
    }
    for (double& value : a) value = std::max(value, 0.0);
    for (int64_t n = 0; n < per_head; n += 2) {
      const double turned = static_cast<double>(position_) * frequencies_[n];
      const double phase = (turned - std::floor(turned)) * 2 * std::numbers::pi;
      key[n] = a[n] * std::cos(phase) - a[n + 1] * std::sin(phase);
      key[n + 1] = a[n + 1] * std::cos(phase) + a[n] * std::sin(phase);
    }
    for (int64_t n = 0; n < per_head; ++n) {
      if (key[n] == 0) continue;
      for (int64_t i = 0; i < width; ++i) {
        read[i] += key[n] * rho[n * width + i];
        rho[n * width + i] += key[n] * x[i];
      }
    }
    Norm(read);
    for (int64_t n = 0; n < per_head; ++n) {
      if (a[n] == 0) continue;
      double gate = 0;
      for (int64_t i = 0; i < width; ++i) gate += read[i] * gate_[(head * width + i) * per_head + n];
      const double p = a[n] * std::max(gate, 0.0);
      for (int64_t i = 0; i < width; ++i) written[i] += p * decoder_[(head * per_head + n) * width + i];
    }
  }

  static void Norm(std::vector<double>& x) {
    const auto size = static_cast<double>(x.size());
    double mean = 0, variance = 0;
    for (const double value : x) mean += value / size;
    for (const double value : x) variance += (value - mean) * (value - mean) / size;
    for (double& value : x) value = (value - mean) / std::sqrt(variance + 1e-5);
  }

  const spec::ModelConfig& config_;
  const std::vector<float>&embed_, &encoder_, &gate_, &decoder_, &lm_head_;
  const std::vector<float> frequencies_;
  std::vector<double> rho_;
  int64_t position_ = 0;
};

TEST(LongRun, InPreciseModeStaysNearDoublePrecision) {
  const char* wanted = std::getenv("BDH_LONG_RUN_TOKENS");
  const int64_t tokens = wanted == nullptr ? 20'000 : std::atoll(wanted);
  Weights weights;
  BDH_ASSERT_OK_AND_ASSIGN(const auto model, BdhModel::Create(kSmallConfig, weights.Named(),
                                                              {.phases = kernels::PhaseMode::kPrecise}));
  DoubleOracle oracle(kSmallConfig, weights);
  BDH_ASSERT_OK_AND_ASSIGN(const auto state, model->NewState());
  std::mt19937 generator(5);
  std::vector<float> logits(kSmallConfig.vocab_size);
  double largest = 0, error = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    const auto token = static_cast<int32_t>(generator() % kSmallConfig.vocab_size);
    BDH_ASSERT_OK(model->StepOne(*state, token, logits));
    const std::vector<double> truth = oracle.Step(token);
    for (size_t i = 0; i < truth.size(); ++i) {
      largest = std::max(largest, std::abs(truth[i]));
      error = std::max(error, std::abs(truth[i] - logits[i]));
    }
  }
  std::printf("%ld tokens: largest error %.3g, which is %.3g of the largest logit\n", tokens, error,
              error / largest);
  RecordProperty("relative_error", std::to_string(error / largest));
  EXPECT_LE(error, kTolerance * largest);
}

}  // namespace
}  // namespace bdh::engine
