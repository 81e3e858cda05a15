// The trainer on a model small enough to train in milliseconds, fed from memory: it learns, it resumes to the
// bit, it stops when asked, and it fails before it does harm. Its AdamW is compared with LibTorch's own.

#include "bdh/training/trainer.h"

// First: without it, clang does not compile LibTorch 1.13's headers as C++20.
#include <ATen/core/ivalue.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>

#include "absl/strings/match.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/training/adamw.h"

namespace bdh::training {
namespace {

const spec::ModelConfig kModel{.n_layer = 2,
                               .n_embd = 16,
                               .n_head = 2,
                               .mlp_internal_dim_multiplier = 8,
                               .vocab_size = 32,
                               .dropout = 0.1};
const Options kOptions{.max_steps = 12,
                       .batch_size = 3,
                       .block_size = 16,
                       .learning_rate = 1e-2,
                       .schedule = Schedule::kCosine,
                       .warmup_steps = 2,
                       .eval_interval = 4,
                       .eval_batches = 2,
                       .log_interval = 1,
                       .threads = 1};  // Two threads on so little work would mostly wait for each other.

// Counting modulo the vocabulary, from a start that depends on step and row: easy to learn.
class Counting : public BatchSource {
 public:
  absl::StatusOr<Batch> Read(int64_t step, std::stop_token) override {
    if (on_read) on_read(step);
    if (fail_at == step) return absl::UnavailableError("the loader is gone");
    Batch batch{.rows = kOptions.batch_size, .columns = kOptions.block_size + 1};
    for (int64_t row = 0; row < batch.rows; ++row) {
      for (int64_t column = 0; column < batch.columns; ++column) {
        batch.tokens.push_back((step * 7 + row * 11 + column + token_offset) % token_modulus);
      }
    }
    if (token_at_end >= 0) batch.tokens.back() = token_at_end;
    return batch;
  }
  std::function<void(int64_t)> on_read;
  int64_t fail_at = -1, token_offset = 0, token_at_end = -1, token_modulus = kModel.vocab_size;
};

// Keeps the newest checkpoint in memory and gives it back.
class Memory : public CheckpointSink, public CheckpointSource {
 public:
  absl::Status Save(const CheckpointFacts& facts, std::span<const Tensor> tensors) override {
    saves.push_back(facts);
    tensors_.clear();
    bytes_.clear();
    for (const Tensor& tensor : tensors) {
      tensors_.push_back(tensor);
      bytes_[tensor.name].assign(tensor.bytes.begin(), tensor.bytes.end());
    }
    return absl::OkStatus();
  }
  absl::StatusOr<CheckpointFacts> Load(std::span<const MutableTensor> tensors) override {
    BDH_RETURN_IF_ERROR(CheckFits(tensors, tensors_));
    for (const MutableTensor& tensor : tensors) {
      std::memcpy(tensor.bytes.data(), bytes_[tensor.name].data(), tensor.bytes.size());
    }
    return saves.back();
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const Tensor& tensor : tensors_) names.push_back(tensor.name);
    return names;
  }
  std::vector<std::byte>& bytes(const std::string& name) { return bytes_[name]; }
  void Drop(const std::string& name) {
    std::erase_if(tensors_, [&](const Tensor& tensor) { return tensor.name == name; });
  }
  std::vector<CheckpointFacts> saves;

 private:
  std::vector<Tensor> tensors_;
  std::map<std::string, std::vector<std::byte>> bytes_;
};

class Losses : public Observer {
 public:
  void OnStep(const Progress& progress, bool) override { seen.push_back(progress); }
  std::vector<double> train() const {
    std::vector<double> losses;
    for (const Progress& progress : seen) losses.push_back(progress.train_loss);
    return losses;
  }
  std::vector<Progress> seen;
};

class TrainerTest : public testing::Test {
 protected:
  Trainer::World World() {
    return {.train = train_, .validation = &validation_, .checkpoints = memory_, .observer = losses_};
  }
  std::unique_ptr<Trainer> Make(const spec::ModelConfig& model = kModel, const Options& options = kOptions) {
    auto trainer = Trainer::Create(model, options);
    EXPECT_TRUE(trainer.ok()) << trainer.status();
    return *std::move(trainer);
  }
  // Twelve steps at once, and six, another process, six more.
  void ExpectSameAfterResume(const Options& options) {
    losses_.seen.clear();
    memory_ = Memory();
    BDH_ASSERT_OK(Make(kModel, options)->Run(World(), {}));
    const std::vector<double> uninterrupted = losses_.train();
    const std::vector<std::byte> weights = memory_.bytes("encoder");
    ASSERT_EQ(uninterrupted.size(), 12u);

    losses_.seen.clear();
    memory_ = Memory();
    std::stop_source stop;
    StopDuring(5, stop);
    BDH_ASSERT_OK_AND_ASSIGN(const auto outcome, Make(kModel, options)->Run(World(), stop.get_token()));
    EXPECT_EQ(outcome, Trainer::Outcome::kStopped);
    ASSERT_EQ(losses_.seen.size(), 6u);
    EXPECT_EQ(memory_.saves.back().step, 6);

    train_.on_read = nullptr;
    torch::manual_seed(999);  // Whatever happened to the generator in between.
    auto resumed = Make(kModel, options);
    BDH_ASSERT_OK(resumed->Restore(memory_));
    EXPECT_EQ(resumed->step(), 6);
    BDH_ASSERT_OK(resumed->Run(World(), {}));
    EXPECT_EQ(losses_.train(), uninterrupted);
    EXPECT_EQ(memory_.bytes("encoder"), weights);
  }
  // Changes a number of the newest checkpoint.
  void SetFirst(const std::string& name, float number) {
    std::memcpy(memory_.bytes(name).data(), &number, sizeof(number));
  }
  void SetLast(const std::string& name, float number) {
    std::vector<std::byte>& bytes = memory_.bytes(name);
    std::memcpy(bytes.data() + bytes.size() - sizeof(number), &number, sizeof(number));
  }
  // Stops once the batch of `step` is asked for, so that this step is the last.
  void StopDuring(int64_t step, std::stop_source& stop) {
    train_.on_read = [&stop, step](int64_t at) {
      if (at == step) stop.request_stop();
    };
  }

  Counting train_, validation_;
  Memory memory_;
  Losses losses_;
};

TEST_F(TrainerTest, LearnsWhatIsEasy) {
  Options options = kOptions;
  options.max_steps = 150;
  options.eval_interval = 50;
  validation_.token_offset = 5;
  BDH_ASSERT_OK_AND_ASSIGN(const auto outcome, Make(kModel, options)->Run(World(), {}));
  EXPECT_EQ(outcome, Trainer::Outcome::kFinished);
  EXPECT_NEAR(losses_.train().front(), std::log(32), 0.2) << "a fresh model guesses";
  EXPECT_LT(losses_.train().back(), 1.0);
  EXPECT_LT(losses_.seen.back().validation_loss.value_or(9), 1.0);
  EXPECT_EQ(losses_.seen.back().tokens_seen, 150 * 3 * 16);
  EXPECT_EQ(losses_.seen.back().seconds_left, 0);
  EXPECT_GT(losses_.seen.back().tokens_per_second, 0);
}

TEST_F(TrainerTest, AResumedRunGivesTheSameLossesToTheBit) {
  for (const int threads : {1, 2, 3}) {
    SCOPED_TRACE(threads);
    Options options = kOptions;
    options.threads = threads;
    ExpectSameAfterResume(options);
  }
}

TEST_F(TrainerTest, AReportInTheMiddleIsTheSameMeanAfterAResume) {
  Options options = kOptions;
  options.eval_interval = 0;
  options.log_interval = 5;  // The run stops at 6, so the report of step 10 is of steps before and after.
  ExpectSameAfterResume(options);
}

TEST_F(TrainerTest, ACheckpointWithoutALossWindowIsContinued) {
  Options options = kOptions;
  options.max_steps = 3;
  BDH_ASSERT_OK(Make(kModel, options)->Run(World(), {}));
  memory_.Drop("trainer/loss_window");
  auto trainer = Make();
  BDH_ASSERT_OK(trainer->Restore(memory_));
  EXPECT_EQ(trainer->step(), 3);
}

TEST_F(TrainerTest, ThreadsShareABatchWithoutChangingTheSum) {
  spec::ModelConfig model = kModel;
  model.dropout = 0;
  BDH_ASSERT_OK(Make(model)->Run(World(), {}));
  const std::vector<double> alone = losses_.train();
  for (const int threads : {2, 3, 8}) {
    losses_.seen.clear();
    Options options = kOptions;
    options.threads = threads;
    BDH_ASSERT_OK(Make(model, options)->Run(World(), {}));
    for (size_t i = 0; i < alone.size(); ++i) EXPECT_NEAR(losses_.train()[i], alone[i], 1e-4) << threads;
  }
}

TEST_F(TrainerTest, ACheckpointHoldsEverything) {
  BDH_ASSERT_OK(Make()->Run(World(), {}));
  const std::vector<std::string> names = memory_.names();
  for (const char* name :
       {"embed.weight", "encoder", "encoder_v", "decoder", "lm_head", "attn.freqs",
        "optimizer/exp_avg/encoder", "optimizer/exp_avg_sq/lm_head", "optimizer/step", "trainer/rng"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
  const CheckpointFacts& facts = memory_.saves.back();
  EXPECT_EQ(facts.step, 12);
  EXPECT_EQ(facts.tokens_seen, 12 * 3 * 16);
  EXPECT_TRUE(facts.train_loss.has_value());
  EXPECT_EQ(facts.validation_loss, losses_.seen.back().validation_loss);
}

TEST_F(TrainerTest, TheBestCheckpointIsTheOneOfTheLowestValidationLoss) {
  Options options = kOptions;
  options.checkpoint_interval = 3;
  options.learning_rate = 0.3;  // Too much: it does not get better all the time.
  options.grad_clip = 1;
  BDH_ASSERT_OK(Make(kModel, options)->Run(World(), {}));
  ASSERT_EQ(memory_.saves.size(), 4u);
  double best = 1e9;
  for (const CheckpointFacts& facts : memory_.saves) {
    ASSERT_TRUE(facts.validation_loss.has_value()) << "a checkpoint is validated at its own step";
    EXPECT_EQ(facts.best, *facts.validation_loss < best);
    best = std::min(best, *facts.validation_loss);
  }
}

TEST_F(TrainerTest, WithoutValidationTheNewestIsTheBest) {
  Options options = kOptions;
  options.checkpoint_interval = 6;
  Trainer::World world = World();
  world.validation = nullptr;
  BDH_ASSERT_OK(Make(kModel, options)->Run(world, {}));
  ASSERT_EQ(memory_.saves.size(), 2u);
  EXPECT_TRUE(memory_.saves[0].best && memory_.saves[1].best);
  EXPECT_FALSE(memory_.saves[1].validation_loss.has_value());
}

TEST_F(TrainerTest, AFinishedRunStaysFinished) {
  BDH_ASSERT_OK(Make()->Run(World(), {}));
  auto again = Make();
  BDH_ASSERT_OK(again->Restore(memory_));
  BDH_ASSERT_OK_AND_ASSIGN(const auto outcome, again->Run(World(), {}));
  EXPECT_EQ(outcome, Trainer::Outcome::kFinished);
  EXPECT_EQ(memory_.saves.size(), 1u) << "nothing new to save";
}

TEST_F(TrainerTest, NotANumberStopsTheRunAndIsNeverSaved) {
  Options options = kOptions;
  options.max_steps = 3;
  BDH_ASSERT_OK(Make(kModel, options)->Run(World(), {}));
  const size_t saves = memory_.saves.size();
  SetFirst("encoder", 3e38f);
  auto trainer = Make();
  BDH_ASSERT_OK(trainer->Restore(memory_));
  const absl::Status status = trainer->Run(World(), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(absl::StrContains(status.message(), "of step 4 is not a finite number")) << status;
  EXPECT_EQ(memory_.saves.size(), saves);
}

TEST_F(TrainerTest, WeightsThatDivergeWhereTheLossDoesNotLookAreNotSaved) {
  Options options = kOptions;
  options.max_steps = 3;
  train_.token_modulus = validation_.token_modulus = 8;  // The other tokens' embeddings are never looked at.
  BDH_ASSERT_OK(Make(kModel, options)->Run(World(), {}));
  const size_t saves = memory_.saves.size();
  SetLast("embed.weight", 3e38f);
  options.max_steps = 4;
  options.schedule = Schedule::kConstant;
  options.warmup_steps = 0;
  options.learning_rate = options.weight_decay =
      10;  // Each step, decay alone makes it a hundred times larger.
  auto trainer = Make(kModel, options);
  BDH_ASSERT_OK(trainer->Restore(memory_));
  const absl::Status status = trainer->Run(World(), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(absl::StrContains(status.message(), "after step 4 numbers of embed.weight are not finite"))
      << status;
  EXPECT_TRUE(std::isfinite(losses_.seen.back().train_loss)) << "and nobody could see it";
  EXPECT_EQ(memory_.saves.size(), saves);
}

TEST_F(TrainerTest, ACheckpointThatIsNotFiniteIsNotContinued) {
  Options options = kOptions;
  options.max_steps = 3;
  BDH_ASSERT_OK(Make(kModel, options)->Run(World(), {}));
  for (const char* name : {"embed.weight", "optimizer/exp_avg_sq/decoder"}) {
    for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
      Memory spoiled = memory_;
      std::swap(spoiled, memory_);
      SetLast(name, bad);
      const absl::Status status = Make()->Restore(memory_);
      std::swap(spoiled, memory_);
      EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << name << bad;
    }
  }
}

TEST_F(TrainerTest, TheGradientIsClippedToItsNorm) {
  // With a clip far below the gradient, the first moment's norm after one step is (1 - beta1) * clip.
  Options options = kOptions;
  options.max_steps = 1;
  options.warmup_steps = 0;
  options.grad_clip = 1e-3;
  BDH_ASSERT_OK(Make(kModel, options)->Run(World(), {}));
  EXPECT_GT(losses_.seen[0].gradient_norm, 1e-2) << "reported as it was before";
  double square = 0;
  for (const std::string& name : memory_.names()) {
    if (!absl::StartsWith(name, "optimizer/exp_avg/")) continue;
    std::vector<float> values(memory_.bytes(name).size() / sizeof(float));
    std::memcpy(values.data(), memory_.bytes(name).data(), memory_.bytes(name).size());
    square += SumOfSquares(values);
  }
  EXPECT_NEAR(std::sqrt(square), 0.1 * 1e-3, 1e-7);
}

TEST_F(TrainerTest, ErrorsOfTheDataNameTheStep) {
  train_.fail_at = 2;
  const absl::Status gone = Make()->Run(World(), {}).status();
  EXPECT_EQ(gone.message(), "read the batch of step 2: the loader is gone (saved at step 2)");
  EXPECT_EQ(memory_.saves.back().step, 2);
  train_.fail_at = -1;
  train_.token_at_end = 32;
  const absl::Status token = Make()->Run(World(), {}).status();
  EXPECT_EQ(token.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(token.message(), "token 32 but model.vocab_size is 32")) << token;
}

TEST_F(TrainerTest, ACheckpointOfAnotherShapeIsRefused) {
  BDH_ASSERT_OK(Make()->Run(World(), {}));
  spec::ModelConfig wider = kModel;
  wider.mlp_internal_dim_multiplier = 16;
  const absl::Status status = Make(wider)->Restore(memory_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "shape")) << status;
}

TEST(AdamWAgainstLibTorch, TwentyFiveStepsAgree) {
  torch::manual_seed(1);
  torch::Tensor weights = torch::randn({5000});
  const torch::Tensor theirs = weights.clone().requires_grad_();
  torch::Tensor exp_avg = torch::zeros({5000}), exp_avg_sq = torch::zeros({5000});
  torch::optim::AdamW optimizer({theirs}, torch::optim::AdamWOptions(1e-2).weight_decay(0.1));
  const auto floats = [](const torch::Tensor& t) {
    return std::span<float>(t.data_ptr<float>(), static_cast<size_t>(t.numel()));
  };
  for (int step = 1; step <= 25; ++step) {
    const torch::Tensor gradient = torch::randn({5000});
    theirs.mutable_grad() = gradient.clone();
    optimizer.step();
    ApplyAdamW({.learning_rate = 1e-2, .step = step}, floats(weights), floats(gradient), floats(exp_avg),
               floats(exp_avg_sq));
  }
  EXPECT_LT((weights - theirs.detach()).abs().max().item<float>(), 1e-6f);
}

}  // namespace
}  // namespace bdh::training
