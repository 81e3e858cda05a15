// Proves that generations share the machine without touching one another: results have the same bits whatever
// else runs; all progress; places, queue and memory are bounded; cancelling frees a place within a step; a
// reader that does not come blocks nobody. The second model here remembers every token, as a transformer's
// cache would, and can be held between steps, so that a test says when a step ends.
#include "bdh/engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <new>
#include <random>
#include <stdexcept>
#include <thread>

#include "bdh/engine/bdh_model.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::engine {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(30);

// A state that grows by an entry a token, and can be cut anywhere.
class CacheState : public DecodeState {
 public:
  int64_t position() const override { return static_cast<int64_t>(cache.size()); }
  int64_t memory_bytes() const override { return position() * 1000; }
  absl::StatusOr<std::unique_ptr<DecodeState>> Fork() const override {
    return std::make_unique<CacheState>(*this);
  }
  absl::Status Truncate(int64_t position) override {
    cache.resize(position);
    return absl::OkStatus();
  }
  std::vector<int32_t> cache;
};

// Says the token after the last one, modulo the vocabulary.
class CacheModel : public DecodeModel {
 public:
  int32_t vocab_size() const override { return 256; }
  int64_t parameter_count() const override { return 0; }
  int64_t weight_bytes() const override { return 0; }
  const std::string& fingerprint() const override { return fingerprint_; }
  int64_t max_tokens() const override { return 100000; }
  int64_t StateBytes(int64_t tokens) const override { return tokens * 1000; }
  absl::StatusOr<std::unique_ptr<DecodeState>> NewState() const override {
    return std::make_unique<CacheState>();
  }
  absl::Status Prefill(DecodeState& state, std::span<const int32_t> tokens, std::span<float> logits,
                       const std::stop_token&) const override {
    for (const int32_t token : tokens) BDH_RETURN_IF_ERROR(StepOne(state, token, logits));
    return absl::OkStatus();
  }
  absl::Status Step(std::span<const StepInput> batch) const override {
    for (const StepInput& input : batch) {
      PassGate();
      auto& cache = static_cast<CacheState&>(*input.state).cache;
      if (cache.empty()) NoteBegin(input.token);
      cache.push_back(input.token);
      if (input.logits.empty()) continue;
      std::fill(input.logits.begin(), input.logits.end(), 0.0f);
      input.logits[(input.token + 1) % vocab_size()] = 1;
    }
    return absl::OkStatus();
  }

  // From now on a step waits for Allow.
  void Hold() { SetAllowed(0); }
  void Allow(int64_t steps) { SetAllowed(steps); }
  void Release() { SetAllowed(-1); }
  // The first tokens of all prompts, in the order of their first steps.
  std::string begun() const {
    MutexLock lock(mutex_);
    return begun_;
  }
  bool holds_a_step() const {
    MutexLock lock(mutex_);
    return held_ > 0;
  }
  int64_t steps() const {
    MutexLock lock(mutex_);
    return steps_;
  }

 private:
  void SetAllowed(int64_t steps) {
    MutexLock lock(mutex_);
    allowed_ = steps;
    changed_.NotifyAll();
  }
  void NoteBegin(int32_t token) const {
    MutexLock lock(mutex_);
    begun_ += static_cast<char>(token);
  }
  void PassGate() const {
    MutexLock lock(mutex_);
    ++held_;
    while (allowed_ == 0) changed_.Wait(mutex_);
    --held_;
    if (allowed_ > 0) --allowed_;
    ++steps_;
  }

  const std::string fingerprint_ = "cache";
  mutable Mutex mutex_;
  mutable CondVar changed_;
  mutable int64_t allowed_ ABSL_GUARDED_BY(mutex_) = -1;
  mutable std::string begun_ ABSL_GUARDED_BY(mutex_);
  mutable int held_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable int64_t steps_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Finds no memory, or worse.
class ThrowingModel : public CacheModel {
 public:
  absl::StatusOr<std::unique_ptr<DecodeState>> NewState() const override { throw std::bad_alloc(); }
};
class BrokenModel : public CacheModel {
 public:
  absl::Status Step(std::span<const StepInput>) const override { throw std::runtime_error("broken"); }
};

std::shared_ptr<const BdhModel> TinyBdh() {
  const spec::ModelConfig config = {.n_layer = 2,
                                    .n_embd = 16,
                                    .n_head = 2,
                                    .mlp_internal_dim_multiplier = 4,
                                    .vocab_size = 256,
                                    .dropout = 0};
  std::mt19937 generator(3);
  const auto specs = spec::Weights(config);
  std::vector<std::vector<float>> values;
  std::vector<NamedTensor> tensors;
  for (const auto& weight : specs) {
    int64_t size = 1;
    for (const int64_t axis : weight.shape) size *= axis;
    auto& numbers = values.emplace_back(size);
    for (float& number : numbers) number = generator() / 4294967296.0f - 0.5f;
  }
  for (size_t i = 0; i < specs.size(); ++i) tensors.push_back({specs[i].name, specs[i].shape, values[i]});
  return *BdhModel::Create(config, tensors);
}

struct Finished {
  absl::Status status;
  std::string text;
  std::vector<int32_t> tokens;
  std::optional<FinishReason> finish;
  int64_t completion_tokens = 0;
};

Finished ReadAll(Generation& generation) {
  Finished finished;
  while (true) {
    auto output = generation.Next(kLong);
    if (!output.ok() || !output->has_value()) {
      finished.status = output.ok() ? absl::DeadlineExceededError("nothing came") : output.status();
      return finished;
    }
    finished.text += (*output)->text;
    finished.tokens.insert(finished.tokens.end(), (*output)->tokens.begin(), (*output)->tokens.end());
    finished.completion_tokens = (*output)->completion_tokens;
    finished.finish = (*output)->finish;
    if (finished.finish.has_value()) return finished;
  }
}

class SchedulerTest : public testing::Test {
 protected:
  ~SchedulerTest() override { cache_->Release(); }

  void Start(Scheduler::Options options) {
    options.memory = &memory_;
    scheduler_ = Scheduler::Create(options);
  }
  GenerationRequest Request(std::vector<int32_t> prompt, int64_t max_tokens) const {
    return {.model = cache_,
            .tokenizer = *tokenizer::Find("byte"),
            .prompt = std::move(prompt),
            .sampling = {.temperature = 0},
            .max_tokens = max_tokens};
  }
  std::unique_ptr<Generation> Submit(GenerationRequest request) {
    auto generation = scheduler_->Submit(std::move(request));
    EXPECT_TRUE(generation.ok()) << generation.status();
    return generation.ok() ? *std::move(generation) : nullptr;
  }
  // Waits for something another thread does; the test's own time limit is the bound.
  template <class Condition>
  void Await(Condition condition) {
    while (!condition()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  const std::shared_ptr<CacheModel> cache_ = std::make_shared<CacheModel>();
  MemoryBudget memory_{1 << 30};
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(SchedulerTest, GeneratesUntilMaxTokens) {
  Start({.threads = 1});
  const auto finished = ReadAll(*Submit(Request({'a'}, 5)));
  BDH_EXPECT_OK(finished.status);
  EXPECT_EQ(finished.text, "bcdef");
  EXPECT_EQ(finished.tokens, (std::vector<int32_t>{'b', 'c', 'd', 'e', 'f'}));
  EXPECT_EQ(finished.finish, FinishReason::kLength);
  EXPECT_EQ(finished.completion_tokens, 5);
}

TEST_F(SchedulerTest, AStopTextEndsItAndCountsAsGenerated) {
  Start({.threads = 1});
  auto request = Request({'a'}, 100);
  request.stops = {"ef"};
  const auto finished = ReadAll(*Submit(std::move(request)));
  EXPECT_EQ(finished.text, "bcd");
  EXPECT_EQ(finished.finish, FinishReason::kStop);
  EXPECT_EQ(finished.completion_tokens, 5);
}

TEST_F(SchedulerTest, NoTokensAskedForMeansNoneComes) {
  Start({.threads = 1});
  const auto finished = ReadAll(*Submit(Request({'a'}, 0)));
  EXPECT_EQ(finished.text, "");
  EXPECT_EQ(finished.finish, FinishReason::kLength);
}

TEST_F(SchedulerTest, ResultsHaveTheSameBitsWhateverElseRuns) {
  const auto model = TinyBdh();
  const auto request = [&](int i) {
    GenerationRequest made = Request(std::vector<int32_t>(1 + 3 * i, 'a' + i), 40);
    made.model = model;
    made.sampling = {.temperature = 1, .top_k = 50, .seed = static_cast<uint64_t>(i)};
    return made;
  };
  std::vector<std::vector<int32_t>> alone;
  Start({.threads = 1, .max_active = 1});
  for (int i = 0; i < 9; ++i) alone.push_back(ReadAll(*Submit(request(i))).tokens);
  for (const int threads : {1, 2, 3}) {
    Start({.threads = threads, .max_active = 4, .max_unread_tokens = 7});
    std::vector<std::unique_ptr<Generation>> together;
    for (int i = 0; i < 9; ++i) together.push_back(Submit(request(i)));
    for (int i = 0; i < 9; ++i) EXPECT_EQ(ReadAll(*together[i]).tokens, alone[i]);
  }
}

TEST_F(SchedulerTest, TurnsAreShared) {
  Start({.threads = 1, .max_active = 2});
  cache_->Hold();
  const auto one = Submit(Request({'a'}, 10)), other = Submit(Request({'A'}, 10));
  cache_->Allow(8);
  Await([&] { return cache_->steps() == 8; });
  std::string one_text, other_text;
  while (one_text.size() < 4) one_text += (*one->Next(kLong))->text;
  while (other_text.size() < 3) other_text += (*other->Next(kLong))->text;
  EXPECT_EQ(one_text, "bcde");
  EXPECT_THAT(other_text, testing::StartsWith("BCD"));
}

TEST_F(SchedulerTest, NoMoreThanMaxActiveRunAndTheNextWait) {
  Start({.threads = 2, .max_active = 2, .max_queue = 3});
  cache_->Hold();
  std::vector<std::unique_ptr<Generation>> generations;
  for (int i = 0; i < 5; ++i) generations.push_back(Submit(Request({'a'}, 2)));
  EXPECT_EQ(scheduler_->load().active, 2);
  EXPECT_EQ(scheduler_->load().queued, 3);
  const auto refused = scheduler_->Submit(Request({'a'}, 2));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("2 generations are active and 3 wait"));
  cache_->Release();
  for (const auto& generation : generations) EXPECT_EQ(ReadAll(*generation).text, "bc");
}

TEST_F(SchedulerTest, TheQueueGoesByPriorityThenByArrival) {
  Start({.threads = 1, .max_active = 1});
  cache_->Hold();
  const auto running = Submit(Request({'a'}, 1));
  std::vector<std::unique_ptr<Generation>> waiting;
  for (const int priority : {0, 5, 0, 5}) {
    auto request = Request({'a'}, 1);
    request.priority = priority;
    waiting.push_back(Submit(std::move(request)));
  }
  // One step ends one generation of one token: so the order of the ends is the order of admission.
  for (const int next : {-1, 1, 3, 0, 2}) {
    cache_->Allow(1);
    EXPECT_EQ(ReadAll(next < 0 ? *running : *waiting[next]).text, "b");
  }
}

TEST_F(SchedulerTest, TheLeastPriorityIsTheLast) {
  Start({.threads = 1, .max_active = 1});
  cache_->Hold();
  const auto running = Submit(Request({'a'}, 1));
  auto least = Request({'a'}, 1);
  least.priority = std::numeric_limits<int>::min();
  const auto last = Submit(std::move(least)), first = Submit(Request({'a'}, 1));
  for (const auto* next : {&running, &first, &last}) {
    cache_->Allow(1);
    EXPECT_EQ(ReadAll(**next).text, "b");
  }
}

TEST_F(SchedulerTest, AmongEqualsTheTenantWithTheFewestActiveIsNext) {
  Start({.threads = 1, .max_active = 2});
  cache_->Hold();
  const auto submit = [&](const char* tenant, char prompt, int64_t max_tokens, int priority = 0) {
    auto request = Request({prompt}, max_tokens);
    request.tenant = tenant;
    request.priority = priority;
    return Submit(std::move(request));
  };
  const auto long_one = submit("greedy", 'a', 100), short_one = submit("greedy", 'b', 1);
  const auto third = submit("greedy", 'c', 1), fourth = submit("greedy", 'd', 1);
  const auto modest = submit("modest", 'e', 1), urgent = submit("greedy", 'f', 1, /*priority=*/1);
  cache_->Release();
  for (const auto* generation : {&long_one, &short_one, &third, &fourth, &modest, &urgent}) {
    BDH_EXPECT_OK(ReadAll(**generation).status);
  }
  EXPECT_EQ(cache_->begun(), "abfecd");
}

TEST_F(SchedulerTest, WithoutAQueueAFreePlaceIsStillTaken) {
  Start({.threads = 1, .max_active = 1, .max_queue = 0});
  cache_->Hold();
  const auto running = Submit(Request({'a'}, 2));
  EXPECT_EQ(scheduler_->Submit(Request({'a'}, 2)).status().code(), absl::StatusCode::kResourceExhausted);
  cache_->Release();
  EXPECT_EQ(ReadAll(*running).text, "bc");
}

TEST_F(SchedulerTest, CancellingFreesThePlaceWithinAStep) {
  Start({.threads = 1, .max_active = 1});
  cache_->Hold();
  auto running = Submit(Request({'a'}, 1000));
  const auto waiting = Submit(Request({'A'}, 1));
  Await([&] { return scheduler_->load().active == 1; });
  running->Cancel();
  cache_->Allow(2);  // One step that was under way, and the other generation's only one.
  EXPECT_EQ(ReadAll(*waiting).text, "B");
  EXPECT_EQ(running->Next(kLong).status().code(), absl::StatusCode::kCancelled);
  EXPECT_LE(cache_->steps(), 2);
}

TEST_F(SchedulerTest, CancellingInTheQueueTakesEffectAtOnce) {
  Start({.threads = 1, .max_active = 1, .max_queue = 1});
  cache_->Hold();
  const auto running = Submit(Request({'a'}, 1));
  auto waiting = Submit(Request({'a'}, 1));
  waiting.reset();
  EXPECT_EQ(scheduler_->load().queued, 0);
  const auto next = Submit(Request({'A'}, 1));
  cache_->Release();
  EXPECT_EQ(ReadAll(*next).text, "B");
}

TEST_F(SchedulerTest, ALongPromptIsCancelledBetweenItsPieces) {
  Start({.threads = 1, .prefill_chunk = 4});
  cache_->Hold();
  auto reading = Submit(Request(std::vector<int32_t>(1000, 'a'), 1));
  cache_->Allow(6);
  Await([&] { return cache_->steps() == 6; });
  reading->Cancel();
  cache_->Release();
  EXPECT_TRUE(scheduler_->AwaitIdle(kLong));
  EXPECT_EQ(cache_->steps(), 8);
}

TEST_F(SchedulerTest, AReaderThatDoesNotComeBlocksNobodyAndMissesNothing) {
  Start({.threads = 1, .max_active = 1, .max_unread_tokens = 4});
  const auto unread = Submit(Request({'a'}, 20));
  Await([&] { return scheduler_->load().parked == 1; });
  EXPECT_EQ(cache_->steps(), 4);
  EXPECT_EQ(ReadAll(*Submit(Request({'A'}, 3))).text, "BCD");
  EXPECT_EQ(ReadAll(*unread).text, "bcdefghijklmnopqrstu");
}

TEST_F(SchedulerTest, AParkedGenerationCanBeCancelled) {
  Start({.threads = 1, .max_unread_tokens = 4});
  auto unread = Submit(Request({'a'}, 20));
  Await([&] { return scheduler_->load().parked == 1; });
  unread.reset();
  EXPECT_TRUE(scheduler_->AwaitIdle(kLong));
  EXPECT_EQ(memory_.used_bytes(), 0);
}

TEST_F(SchedulerTest, AGenerationCancelledInTheStepThatWouldParkItLeaves) {
  Start({.threads = 1, .max_unread_tokens = 4});
  cache_->Hold();
  auto unread = Submit(Request({'a'}, 20));
  cache_->Allow(3);
  Await([&] { return cache_->steps() == 3 && cache_->holds_a_step(); });
  unread.reset();
  cache_->Release();
  EXPECT_TRUE(scheduler_->AwaitIdle(kLong));
  EXPECT_EQ(memory_.used_bytes(), 0);
}

TEST_F(SchedulerTest, AnExceptionEndsItsGenerationAlone) {
  Start({.threads = 1});
  auto too_large = Request({'a'}, 3), broken = Request({'a'}, 3);
  too_large.model = std::make_shared<ThrowingModel>();
  broken.model = std::make_shared<BrokenModel>();
  const auto exhausted = ReadAll(*Submit(std::move(too_large))).status;
  EXPECT_EQ(exhausted.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(exhausted.message()), HasSubstr("no memory left"));
  EXPECT_EQ(ReadAll(*Submit(std::move(broken))).status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(ReadAll(*Submit(Request({'a'}, 3))).text, "bcd");
  EXPECT_EQ(memory_.used_bytes(), 0);
}

TEST_F(SchedulerTest, StatesWaitForMemoryAndWhatCannotFitIsRefused) {
  Start({.threads = 2, .max_active = 8});
  BDH_ASSERT_OK_AND_ASSIGN(auto weights, memory_.Reserve((1 << 30) - 25000, "weights"));
  cache_->Hold();
  const auto one = Submit(Request({'a'}, 9)), two = Submit(Request({'a'}, 9)),
             three = Submit(Request({'a'}, 9));
  EXPECT_EQ(scheduler_->load().active, 2) << "10,000 bytes each";
  EXPECT_EQ(scheduler_->load().queued, 1);
  cache_->Release();
  for (const auto* generation : {&one, &two, &three}) EXPECT_EQ(ReadAll(**generation).text, "bcdefghij");
  const auto refused = scheduler_->Submit(Request({'a'}, 25));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("the state of one generation wants 25.4 KiB"));
  EXPECT_EQ(memory_.used_bytes(), weights.bytes());
}

TEST_F(SchedulerTest, DrainingFinishesWhatRunsAndAdmitsNothing) {
  Start({.threads = 1});
  cache_->Hold();
  const auto running = Submit(Request({'a'}, 3));
  scheduler_->StopAdmitting();
  EXPECT_EQ(scheduler_->Submit(Request({'a'}, 3)).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(scheduler_->AwaitIdle(absl::Milliseconds(1)));
  cache_->Release();
  EXPECT_TRUE(scheduler_->AwaitIdle(kLong));
  EXPECT_EQ(ReadAll(*running).text, "bcd");
}

TEST_F(SchedulerTest, CancelAllEndsEverything) {
  Start({.threads = 1, .max_active = 1});
  cache_->Hold();
  const auto running = Submit(Request({'a'}, 1000)), waiting = Submit(Request({'a'}, 1000));
  scheduler_->CancelAll();
  cache_->Release();
  EXPECT_EQ(ReadAll(*running).status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(ReadAll(*waiting).status.code(), absl::StatusCode::kCancelled);
}

TEST_F(SchedulerTest, BadRequestsAreRefusedBeforeTheyWait) {
  Start({.threads = 1});
  const auto code = [&](GenerationRequest request) {
    return scheduler_->Submit(std::move(request)).status().code();
  };
  EXPECT_EQ(code(Request({}, 1)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Request({256}, 1)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Request({-1}, 1)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Request({1}, -1)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Request({1}, 100000)), absl::StatusCode::kOutOfRange);
  auto request = Request({1}, 1);
  request.sampling.temperature = 7;
  EXPECT_EQ(code(request), absl::StatusCode::kInvalidArgument);
  request = Request({1}, 1);
  request.stops = {""};
  EXPECT_EQ(code(request), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace bdh::engine
