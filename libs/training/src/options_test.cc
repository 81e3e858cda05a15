// The recipe: every schedule has exactly the values written here, and every careless number is refused by
// the name of its field.

#include "bdh/training/options.h"

#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/match.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::training {
namespace {

TEST(LearningRate, ConstantStaysWhereItIs) {
  const Options options{.max_steps = 10, .learning_rate = 0.5};
  for (const int64_t step : {0, 1, 9, 1000}) EXPECT_DOUBLE_EQ(LearningRate(options, step), 0.5);
}

TEST(LearningRate, WarmUpRisesInEqualSteps) {
  const Options options{.max_steps = 10, .learning_rate = 1.0, .warmup_steps = 3};
  EXPECT_DOUBLE_EQ(LearningRate(options, 0), 0.25);
  EXPECT_DOUBLE_EQ(LearningRate(options, 1), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(options, 2), 0.75);
  EXPECT_DOUBLE_EQ(LearningRate(options, 3), 1.0);
}

TEST(LearningRate, LinearEndsAtTheMinimumInTheLastStep) {
  const Options options{.max_steps = 13,
                        .learning_rate = 1.0,
                        .schedule = Schedule::kLinear,
                        .warmup_steps = 2,
                        .min_learning_rate = 0.2};
  EXPECT_DOUBLE_EQ(LearningRate(options, 2), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(options, 7), 0.6);
  EXPECT_DOUBLE_EQ(LearningRate(options, 12), 0.2);
  EXPECT_DOUBLE_EQ(LearningRate(options, 100), 0.2) << "a resumed run with fewer steps";
}

TEST(LearningRate, CosineIsHalfWayInTheMiddle) {
  const Options options{
      .max_steps = 101, .learning_rate = 1.0, .schedule = Schedule::kCosine, .min_learning_rate = 0.1};
  EXPECT_DOUBLE_EQ(LearningRate(options, 0), 1.0);
  EXPECT_NEAR(LearningRate(options, 25), 0.1 + 0.9 * 0.853553390593, 1e-12);
  EXPECT_NEAR(LearningRate(options, 50), 0.55, 1e-12);
  EXPECT_DOUBLE_EQ(LearningRate(options, 100), 0.1);
}

TEST(LearningRate, ASingleStepIsEnough) {
  EXPECT_DOUBLE_EQ(LearningRate({.max_steps = 1, .schedule = Schedule::kCosine}, 0), 0.0);
}

void ExpectRefused(const Options& options, const char* field) {
  const absl::Status status = Validate(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
  EXPECT_TRUE(absl::StartsWith(status.message(), field)) << status;
}

TEST(ValidateOptions, NamesTheField) {
  BDH_EXPECT_OK(Validate(Options()));
  ExpectRefused({.max_steps = 0}, "max_steps");
  ExpectRefused({.batch_size = 0}, "batch_size");
  ExpectRefused({.block_size = 1}, "block_size");
  ExpectRefused({.learning_rate = -1}, "learning_rate");
  ExpectRefused({.learning_rate = std::numeric_limits<double>::quiet_NaN()}, "learning_rate");
  ExpectRefused({.warmup_steps = -1}, "warmup_steps");
  ExpectRefused({.weight_decay = 11}, "weight_decay");
  ExpectRefused({.beta1 = 1}, "beta1");
  ExpectRefused({.beta2 = 1}, "beta2");
  ExpectRefused({.adam_eps = -1}, "adam_eps");
  ExpectRefused({.adam_eps = 0}, "adam_eps");
  BDH_EXPECT_OK(Validate({.adam_eps = 1e-16}));
  ExpectRefused({.grad_clip = -1}, "grad_clip");
  ExpectRefused({.eval_interval = -1}, "eval_interval");
  ExpectRefused({.eval_batches = 0}, "eval_batches");
  ExpectRefused({.checkpoint_interval = -1}, "checkpoint_interval");
  ExpectRefused({.log_interval = 0}, "log_interval");
  ExpectRefused({.threads = -1}, "threads");
  ExpectRefused({.max_steps = 5, .schedule = Schedule::kLinear, .warmup_steps = 5}, "warmup_steps");
  ExpectRefused({.schedule = Schedule::kCosine, .min_learning_rate = 1}, "min_learning_rate");
}

TEST(WorkerCount, IsWhatThreadsRowsAndMemoryAllow) {
  const spec::ModelConfig small, large{.n_embd = 4096};
  EXPECT_EQ(WorkerCount(small, {.batch_size = 32, .threads = 8}), 8);
  EXPECT_EQ(WorkerCount(small, {.batch_size = 3, .threads = 8}), 3);
  EXPECT_EQ(WorkerCount(large, {.batch_size = 32, .threads = 8}), 1);
}

TEST(MemoryEstimate, CountsWeightsFourTimesAndNeverOverflows) {
  const spec::ModelConfig model;
  EXPECT_EQ(EstimateMemory(model, {.threads = 1}).model_bytes,
            16.0 * static_cast<double>(spec::ParameterCount(model)));
  EXPECT_GT(EstimateMemory(model, {}).activation_bytes, 1e9);
  const double huge = EstimateMemory({.n_layer = 1024, .n_embd = 65536, .mlp_internal_dim_multiplier = 65536},
                                     {.batch_size = 65536, .block_size = 1 << 20})
                          .total();
  EXPECT_GT(huge, 1e20);
}

}  // namespace
}  // namespace bdh::training
