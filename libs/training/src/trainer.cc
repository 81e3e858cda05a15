#include "bdh/training/trainer.h"

#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <exception>
#include <limits>
#include <map>
#include <new>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/training/adamw.h"
#include "shared_model.h"

namespace bdh::training {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kNone = std::numeric_limits<double>::infinity();
constexpr char kLossWindowName[] = "trainer/loss_window";  // Sum and count since the last report.

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// AdamW's two moments of a parameter.
struct Moments {
  torch::Tensor exp_avg, exp_avg_sq;
};

std::span<float> Floats(const torch::Tensor& tensor, int64_t begin, int64_t end) {
  return {tensor.data_ptr<float>() + begin, static_cast<size_t>(end - begin)};
}

DType TypeOf(const torch::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case torch::kFloat64:
      return DType::kF64;
    case torch::kInt64:
      return DType::kI64;
    case torch::kUInt8:
      return DType::kU8;
    default:
      return DType::kF32;
  }
}

template <class Byte>
BasicTensor<Byte> View(std::string name, const torch::Tensor& tensor) {
  return {.name = std::move(name),
          .dtype = TypeOf(tensor),
          .shape = tensor.sizes().vec(),
          .bytes = {static_cast<Byte*>(tensor.data_ptr()), tensor.nbytes()}};
}

// No branch, so that it runs at the speed of memory.
bool AllFinite(std::span<const float> numbers) {
  constexpr uint32_t kExponent = 0x7f800000;  // All ones: infinite, or not a number.
  uint32_t bad = 0;
  for (const float number : numbers) bad |= (std::bit_cast<uint32_t>(number) & kExponent) == kExponent;
  return bad == 0;
}

std::string FirstLine(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

// LibTorch throws; here a status comes back.
template <class Body>
auto Guarded(std::string_view doing, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrFormat("%s: out of memory", doing));
  } catch (const std::exception& error) {
    const std::string what = FirstLine(error.what());
    if (what.find("allocate memory") != std::string::npos) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "%s: out of memory; a smaller train.batch_size or train.block_size needs less", doing));
    }
    return absl::InternalError(absl::StrFormat("%s: %s", doing, what));
  }
}

// Pace of the recent steps.
class Pace {
 public:
  void Add(double seconds, int64_t tokens) {
    recent_.push_back({seconds, tokens});
    seconds_ += seconds;
    tokens_ += tokens;
    if (recent_.size() > kWindow) {
      seconds_ -= recent_.front().first;
      tokens_ -= recent_.front().second;
      recent_.pop_front();
    }
  }
  double tokens_per_second() const { return seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0; }
  double seconds_per_step() const {
    return recent_.empty() ? 0 : seconds_ / static_cast<double>(recent_.size());
  }

 private:
  static constexpr size_t kWindow = 32;
  std::deque<std::pair<double, int64_t>> recent_;
  double seconds_ = 0;
  int64_t tokens_ = 0;
};

}  // namespace

class Trainer::Impl {
 public:
  Impl(const spec::ModelConfig& config, const Options& options);

  absl::Status Restore(CheckpointSource& source);
  absl::StatusOr<Outcome> Run(const World& world, std::stop_token stop);

  int64_t step() const { return step_; }
  const Progress& progress() const { return progress_; }

 private:
  // Inputs and targets of a batch, or why it cannot be one.
  absl::StatusOr<torch::Tensor> ToTensor(Batch& batch) const;
  absl::StatusOr<bool> Step(const World& world, std::stop_token stop);  // False: stopped.
  // For an error that leaves the weights good: saves them before it ends the run.
  absl::Status Rescue(const World& world, const absl::Status& error);
  absl::Status Update(double loss);
  absl::StatusOr<bool> Evaluate(const World& world, std::stop_token stop);
  absl::StatusOr<bool> AfterStep(const World& world, std::stop_token stop);
  absl::Status Save(CheckpointSink& sink, bool has_validation);
  // The first weight or moment that is not a finite number, by name; empty when there is none.
  std::string NotFinite();
  void Report(Observer& observer, bool report);
  double SecondsLeft() const;
  bool IsDue(int64_t interval) const { return interval > 0 && step_ % interval == 0; }
  // Everything a checkpoint holds, at its place in memory.
  template <class Byte>
  std::vector<BasicTensor<Byte>> State() const;

  const spec::ModelConfig config_;
  const Options options_;
  std::unique_ptr<SharedModel> model_;
  std::map<std::string, Moments> moments_;  // By the parameter's name.
  // As checkpoints hold them; see State.
  torch::Tensor step_tensor_, generator_, best_losses_, loss_window_;

  int64_t step_ = 0;
  int64_t saved_step_ = -1;
  int64_t evaluated_step_ = -1;
  int64_t tokens_seen_ = 0;
  double best_loss_ = kNone;        // Of all validations.
  double best_saved_loss_ = kNone;  // Of those whose weights were saved.
  double loss_sum_ = 0;             // Since the last report.
  int64_t loss_count_ = 0;
  Pace pace_;
  double evaluation_seconds_ = 0;
  Progress progress_;
};

Trainer::Impl::Impl(const spec::ModelConfig& config, const Options& options)
    : config_(config), options_(options) {
  torch::manual_seed(options.seed);
  const int workers = WorkerCount(config, options);
  model_ = std::make_unique<SharedModel>(config, workers, ThreadCount(options) / workers);
  for (const SharedModel::Parameter& parameter : model_->parameters()) {
    moments_[parameter.name] = {torch::zeros_like(parameter.weight), torch::zeros_like(parameter.weight)};
  }
  generator_ = at::detail::getDefaultCPUGenerator().get_state().clone();
  step_tensor_ = torch::zeros({}, torch::kInt64);
  best_losses_ = torch::full({2}, kNone, torch::kFloat64);
  loss_window_ = torch::zeros({2}, torch::kFloat64);
  progress_.max_steps = options.max_steps;
}

template <class Byte>
std::vector<BasicTensor<Byte>> Trainer::Impl::State() const {
  std::vector<BasicTensor<Byte>> state;
  for (const auto& parameter : model_->parameters()) {
    state.push_back(View<Byte>(parameter.name, parameter.weight));
  }
  state.push_back(View<Byte>(spec::kFrequenciesName, model_->frequencies()));
  for (const auto& [name, moments] : moments_) {
    state.push_back(View<Byte>("optimizer/exp_avg/" + name, moments.exp_avg));
    state.push_back(View<Byte>("optimizer/exp_avg_sq/" + name, moments.exp_avg_sq));
  }
  state.push_back(View<Byte>("optimizer/step", step_tensor_));
  state.push_back(View<Byte>("trainer/rng", generator_));
  state.push_back(View<Byte>("trainer/best_losses", best_losses_));
  state.push_back(View<Byte>(kLossWindowName, loss_window_));
  return state;
}

std::string Trainer::Impl::NotFinite() {
  std::atomic<const std::string*> found = nullptr;
  model_->ForSlices([&](SharedModel::Parameter& parameter, int64_t begin, int64_t end) {
    const Moments& moments = moments_.at(parameter.name);
    for (const torch::Tensor& tensor : {parameter.weight, moments.exp_avg, moments.exp_avg_sq}) {
      if (!AllFinite(Floats(tensor, begin, end))) found = &parameter.name;
    }
  });
  return found == nullptr ? "" : *found.load();
}

absl::Status Trainer::Impl::Restore(CheckpointSource& source) {
  std::vector<MutableTensor> state = State<std::byte>();
  absl::StatusOr<CheckpointFacts> loaded = source.Load(state);
  if (absl::IsInvalidArgument(loaded.status()) && state.back().name == kLossWindowName) {
    // Version 0.1 did not write it; a report in the middle is then the mean of fewer steps.
    state.pop_back();
    loaded = source.Load(state);
  }
  BDH_ASSIGN_OR_RETURN(const CheckpointFacts facts, std::move(loaded));
  if (const std::string name = NotFinite(); !name.empty()) {
    return absl::OutOfRangeError(absl::StrFormat(
        "the checkpoint of step %d holds numbers of %s that are not finite", facts.step, name));
  }
  return Guarded("restore the generator", [&] {
    at::Generator generator = at::detail::getDefaultCPUGenerator();
    generator.set_state(generator_);
    step_ = saved_step_ = step_tensor_.item<int64_t>();
    tokens_seen_ = facts.tokens_seen;
    best_loss_ = best_losses_[0].item<double>();
    best_saved_loss_ = best_losses_[1].item<double>();
    loss_sum_ = loss_window_[0].item<double>();
    loss_count_ = static_cast<int64_t>(loss_window_[1].item<double>());
    if (step_ != facts.step) {
      return absl::DataLossError(
          absl::StrFormat("the checkpoint says step %d and its optimizer/step says %d", facts.step, step_));
    }
    progress_.step = step_;
    progress_.tokens_seen = tokens_seen_;
    progress_.train_loss = facts.train_loss.value_or(0);
    progress_.validation_loss = facts.validation_loss;
    if (best_loss_ != kNone) progress_.best_validation_loss = best_loss_;
    return absl::OkStatus();
  });
}

absl::StatusOr<torch::Tensor> Trainer::Impl::ToTensor(Batch& batch) const {
  if (batch.rows != options_.batch_size || batch.columns != options_.block_size + 1 ||
      static_cast<int64_t>(batch.tokens.size()) != batch.rows * batch.columns) {
    return absl::InternalError(absl::StrFormat("a batch of %d x %d tokens came; asked for %d x %d",
                                               batch.rows, batch.columns, options_.batch_size,
                                               options_.block_size + 1));
  }
  for (const int64_t token : batch.tokens) {
    if (token < 0 || token >= config_.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the data holds token %d but model.vocab_size is %d", token, config_.vocab_size));
    }
  }
  return torch::from_blob(batch.tokens.data(), {batch.rows, batch.columns}, torch::kInt64);
}

absl::Status Trainer::Impl::Update(double loss) {
  const auto diverged = [&](const char* what) {
    return absl::InternalError(absl::StrFormat(
        "the %s of step %d is not a finite number, so training stopped before it could do harm; a lower "
        "train.learning_rate, more train.warmup_steps or train.grad_clip: 1 may help",
        what, step_ + 1));
  };
  if (!std::isfinite(loss)) return diverged("loss");
  const double norm = std::sqrt(model_->GradientSquare());
  if (!std::isfinite(norm)) return diverged("gradient");
  const double clip = options_.grad_clip;
  const AdamWStep update{.learning_rate = LearningRate(options_, step_),
                         .beta1 = options_.beta1,
                         .beta2 = options_.beta2,
                         .eps = options_.adam_eps,
                         .weight_decay = options_.weight_decay,
                         .step = step_ + 1,
                         .gradient_scale = clip > 0 && norm > clip ? clip / (norm + 1e-6) : 1.0};
  model_->ForSlices([&](SharedModel::Parameter& parameter, int64_t begin, int64_t end) {
    const Moments& moments = moments_.at(parameter.name);
    ApplyAdamW(update, Floats(parameter.weight, begin, end), Floats(parameter.gradients[0], begin, end),
               Floats(moments.exp_avg, begin, end), Floats(moments.exp_avg_sq, begin, end));
  });
  progress_.learning_rate = update.learning_rate;
  progress_.gradient_norm = norm;
  return absl::OkStatus();
}

absl::StatusOr<bool> Trainer::Impl::Step(const World& world, std::stop_token stop) {
  const Clock::time_point start = Clock::now();
  absl::StatusOr<Batch> batch = world.train.Read(step_, stop);
  if (!batch.ok() && stop.stop_requested()) return false;
  if (!batch.ok()) {
    return Rescue(world, Annotate(batch.status(), absl::StrFormat("read the batch of step %d", step_)));
  }
  double loss = 0;
  BDH_RETURN_IF_ERROR(Guarded("training step", [&]() -> absl::Status {
    BDH_ASSIGN_OR_RETURN(const torch::Tensor tokens, ToTensor(*batch));
    loss = model_->LossAndGradients(tokens);
    return Update(loss);
  }));
  const int64_t token_count = options_.batch_size * options_.block_size;
  ++step_;
  tokens_seen_ += token_count;
  loss_sum_ += loss;
  ++loss_count_;
  pace_.Add(SecondsSince(start), token_count);
  return true;
}

absl::Status Trainer::Impl::Rescue(const World& world, const absl::Status& error) {
  const absl::Status saved = Save(world.checkpoints, world.validation != nullptr);
  return absl::Status(error.code(), absl::StrFormat("%s (%s)", std::string(error.message()),
                                                    saved.ok() ? absl::StrFormat("saved at step %d", step_)
                                                               : std::string(saved.message())));
}

absl::StatusOr<bool> Trainer::Impl::Evaluate(const World& world, std::stop_token stop) {
  const Clock::time_point start = Clock::now();
  double sum = 0;
  for (int64_t i = 0; i < options_.eval_batches; ++i) {
    if (stop.stop_requested()) return false;
    absl::StatusOr<Batch> batch = world.validation->Read(i, stop);
    if (!batch.ok() && stop.stop_requested()) return false;
    if (!batch.ok()) {
      Report(world.observer, true);  // The step before was not told yet.
      return Rescue(world, Annotate(batch.status(), "read a batch of validation"));
    }
    BDH_RETURN_IF_ERROR(Guarded("validation", [&]() -> absl::Status {
      BDH_ASSIGN_OR_RETURN(const torch::Tensor tokens, ToTensor(*batch));
      sum += model_->Loss(tokens);
      return absl::OkStatus();
    }));
  }
  const double loss = sum / static_cast<double>(options_.eval_batches);
  if (!std::isfinite(loss)) {
    return absl::InternalError(
        absl::StrFormat("the validation loss of step %d is not a finite number", step_));
  }
  best_loss_ = std::min(best_loss_, loss);
  progress_.validation_loss = loss;
  progress_.best_validation_loss = best_loss_;
  evaluated_step_ = step_;
  evaluation_seconds_ = SecondsSince(start);
  return true;
}

absl::Status Trainer::Impl::Save(CheckpointSink& sink, bool has_validation) {
  if (saved_step_ == step_) return absl::OkStatus();
  if (const std::string name = NotFinite(); !name.empty()) {
    // The loss may be fine all the same, where the data does not reach what has gone wrong.
    return absl::InternalError(
        absl::StrFormat("after step %d numbers of %s are not finite, so this state was not saved; the newest "
                        "checkpoint is good. A "
                        "lower train.learning_rate, more train.warmup_steps or train.grad_clip: 1 may help",
                        step_, name));
  }
  CheckpointFacts facts{.step = step_, .tokens_seen = tokens_seen_};
  if (step_ > 0) facts.train_loss = loss_count_ > 0 ? loss_sum_ / loss_count_ : progress_.train_loss;
  if (evaluated_step_ == step_) facts.validation_loss = progress_.validation_loss;
  // Something is better than nothing: until a validated checkpoint is there, every new one is the best.
  facts.best = !has_validation || facts.validation_loss.value_or(kNone) < best_saved_loss_ ||
               best_saved_loss_ == kNone;
  const double best_saved = std::min(best_saved_loss_, facts.validation_loss.value_or(kNone));
  step_tensor_.fill_(step_);
  generator_.copy_(at::detail::getDefaultCPUGenerator().get_state());
  best_losses_[0] = best_loss_;
  best_losses_[1] = best_saved;
  loss_window_[0] = loss_sum_;
  loss_window_[1] = static_cast<double>(loss_count_);
  BDH_RETURN_IF_ERROR(Annotate(sink.Save(facts, State<const std::byte>()),
                               absl::StrFormat("save the checkpoint of step %d", step_)));
  saved_step_ = step_;
  best_saved_loss_ = best_saved;
  return absl::OkStatus();
}

double Trainer::Impl::SecondsLeft() const {
  const int64_t steps = options_.max_steps - step_;
  double seconds = pace_.seconds_per_step() * static_cast<double>(steps);
  if (options_.eval_interval > 0) {
    seconds += evaluation_seconds_ * static_cast<double>(steps / options_.eval_interval);
  }
  return seconds;
}

void Trainer::Impl::Report(Observer& observer, bool report) {
  progress_.step = step_;
  progress_.tokens_seen = tokens_seen_;
  progress_.tokens_per_second = pace_.tokens_per_second();
  progress_.seconds_left = SecondsLeft();
  if (loss_count_ > 0) progress_.train_loss = loss_sum_ / static_cast<double>(loss_count_);
  observer.OnStep(progress_, report);
  if (!report) return;
  loss_sum_ = 0;
  loss_count_ = 0;
}

// Validation, report and checkpoint, in this order: a checkpoint wants to know how good it is.
absl::StatusOr<bool> Trainer::Impl::AfterStep(const World& world, std::stop_token stop) {
  const bool last = step_ >= options_.max_steps;
  const bool save = last || IsDue(options_.checkpoint_interval);
  const bool evaluate = world.validation != nullptr && (save || IsDue(options_.eval_interval));
  bool going_on = true;
  if (evaluate) {
    BDH_ASSIGN_OR_RETURN(going_on, Evaluate(world, stop));
  }
  Report(world.observer, last || evaluate || IsDue(options_.log_interval));
  if (going_on && save) {
    BDH_RETURN_IF_ERROR(Save(world.checkpoints, world.validation != nullptr));
  }
  return going_on;
}

absl::StatusOr<Trainer::Outcome> Trainer::Impl::Run(const World& world, std::stop_token stop) {
  bool going_on = true;
  while (going_on && step_ < options_.max_steps && !stop.stop_requested()) {
    BDH_ASSIGN_OR_RETURN(going_on, Step(world, stop));
    if (!going_on) break;
    BDH_ASSIGN_OR_RETURN(going_on, AfterStep(world, stop));
  }
  BDH_RETURN_IF_ERROR(Save(world.checkpoints, world.validation != nullptr));
  return step_ >= options_.max_steps ? Outcome::kFinished : Outcome::kStopped;
}

Trainer::Trainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Trainer::~Trainer() = default;

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const spec::ModelConfig& model,
                                                         const Options& options) {
  BDH_RETURN_IF_ERROR(spec::Validate(model));
  BDH_RETURN_IF_ERROR(Validate(options));
  return Guarded("make the model", [&]() -> absl::StatusOr<std::unique_ptr<Trainer>> {
    return std::unique_ptr<Trainer>(new Trainer(std::make_unique<Impl>(model, options)));
  });
}

absl::Status Trainer::Restore(CheckpointSource& source) {
  return Guarded("restore the checkpoint", [&] { return impl_->Restore(source); });
}

absl::StatusOr<Trainer::Outcome> Trainer::Run(const World& world, std::stop_token stop) {
  // Whatever throws, wherever, ends the run and not the process.
  return Guarded("train", [&] { return impl_->Run(world, std::move(stop)); });
}

int64_t Trainer::step() const {
  return impl_->step();
}

const Progress& Trainer::progress() const {
  return impl_->progress();
}

}  // namespace bdh::training
