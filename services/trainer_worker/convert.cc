#include "services/trainer_worker/convert.h"

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/config/config.h"
#include "bdh/config/model_config.h"
#include "bdh/training/machine.h"

namespace bdh::trainer_worker {
namespace {

training::Schedule ToSchedule(std::string_view name) {
  if (name == "linear") return training::Schedule::kLinear;
  if (name == "cosine") return training::Schedule::kCosine;
  return training::Schedule::kConstant;
}

v1::DType ToProto(training::DType dtype) {
  switch (dtype) {
    case training::DType::kF32:
      return v1::DTYPE_F32;
    case training::DType::kF64:
      return v1::DTYPE_F64;
    case training::DType::kI64:
      return v1::DTYPE_I64;
    case training::DType::kU8:
      return v1::DTYPE_U8;
  }
  return v1::DTYPE_UNSPECIFIED;
}

absl::Status WithPrefix(std::string_view prefix, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrFormat("%s%s", prefix, std::string(status.message())));
}

std::string Bytes(double bytes) {
  return bytes < 1e18 ? FormatBytes(static_cast<uint64_t>(bytes)) : absl::StrFormat("%.1e bytes", bytes);
}

}  // namespace

training::Options ToOptions(const v1::TrainConfig& train, int threads) {
  return {.max_steps = train.max_steps(),
          .batch_size = train.batch_size(),
          .block_size = train.block_size(),
          .learning_rate = train.learning_rate(),
          .schedule = ToSchedule(train.lr_schedule()),
          .warmup_steps = train.warmup_steps(),
          .min_learning_rate = train.min_learning_rate(),
          .weight_decay = train.weight_decay(),
          .beta1 = train.beta1(),
          .beta2 = train.beta2(),
          .adam_eps = train.adam_eps(),
          .grad_clip = train.grad_clip(),
          .eval_interval = train.eval_interval(),
          .eval_batches = train.eval_batches(),
          .checkpoint_interval = train.checkpoint_interval(),
          .log_interval = train.log_interval(),
          .seed = train.seed(),
          .threads = threads};
}

v1::Progress ToProto(const training::Progress& progress) {
  v1::Progress out;
  out.set_step(progress.step);
  out.set_max_steps(progress.max_steps);
  out.set_train_loss(progress.train_loss);
  if (progress.validation_loss) out.set_validation_loss(*progress.validation_loss);
  if (progress.best_validation_loss) out.set_best_validation_loss(*progress.best_validation_loss);
  out.set_learning_rate(progress.learning_rate);
  out.set_gradient_norm(progress.gradient_norm);
  out.set_tokens_seen(progress.tokens_seen);
  out.set_tokens_per_second(progress.tokens_per_second);
  out.set_seconds_left(progress.seconds_left);
  return out;
}

v1::TensorInfo ToProto(const training::Tensor& tensor) {
  v1::TensorInfo info;
  info.set_name(tensor.name);
  info.set_dtype(ToProto(tensor.dtype));
  for (const int64_t length : tensor.shape) info.add_shape(length);
  info.set_size_bytes(static_cast<int64_t>(tensor.bytes.size()));
  return info;
}

absl::StatusOr<training::Tensor> FromProto(const v1::TensorInfo& info) {
  training::Tensor tensor{.name = info.name(), .shape = {info.shape().begin(), info.shape().end()}};
  for (const auto dtype :
       {training::DType::kF32, training::DType::kF64, training::DType::kI64, training::DType::kU8}) {
    tensor.dtype = dtype;
    if (ToProto(dtype) == info.dtype()) return tensor;
  }
  return absl::InvalidArgumentError(absl::StrFormat("tensor %s has the type %s, which a trainer does not use",
                                                    info.name(), v1::DType_Name(info.dtype())));
}

absl::Status Complete(v1::ModelConfig& model, v1::TrainConfig& train) {
  config::FillDefaults(model);
  config::FillDefaults(train);
  BDH_RETURN_IF_ERROR(config::Validate(model, "model"));
  BDH_RETURN_IF_ERROR(config::Validate(train, "train"));
  return WithPrefix("train.", training::Validate(ToOptions(train, 0)));
}

absl::Status FitToDataset(const v1::Dataset& dataset, const v1::TrainConfig& train, v1::ModelConfig& model) {
  if (model.vocab_size() == 0) model.set_vocab_size(dataset.vocab_size());
  if (model.vocab_size() < dataset.vocab_size()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "model.vocab_size is %d, but tokenizer %s of data set '%s' has %d tokens; leave it 0 to take that",
        model.vocab_size(), dataset.tokenizer(), dataset.name(), dataset.vocab_size()));
  }
  if (dataset.train_tokens() <= train.block_size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("train.block_size is %d, but data set '%s' has only %d tokens to train on; add more "
                        "text or take a smaller block",
                        train.block_size(), dataset.name(), dataset.train_tokens()));
  }
  if (train.eval_interval() > 0 && dataset.validation_tokens() <= train.block_size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("train.block_size is %d, but data set '%s' has only %d tokens for validation; take a "
                        "smaller block, or train.eval_interval: 0 for no validation",
                        train.block_size(), dataset.name(), dataset.validation_tokens()));
  }
  return WithPrefix("model: ", spec::Validate(config::ToSpec(model)));
}

absl::Status CheckMemory(const v1::ModelConfig& model, const v1::TrainConfig& train,
                         int64_t max_model_bytes) {
  const training::MemoryEstimate need = training::EstimateMemory(config::ToSpec(model), ToOptions(train, 0));
  if (need.model_bytes > static_cast<double>(max_model_bytes)) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "this model needs %s for weights, gradients and optimiser state, and trainer_worker.max_model_bytes "
        "allows %s; a smaller model.n_embd or model.mlp_internal_dim_multiplier needs less",
        Bytes(need.model_bytes), Bytes(static_cast<double>(max_model_bytes))));
  }
  const double memory = training::AvailableMemoryBytes();
  if (need.total() <= memory) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "this run needs about %s (%s for the model, %s for activations of train.batch_size %d x "
      "train.block_size %d) and the worker has %s; a smaller batch, block or model needs less",
      Bytes(need.total()), Bytes(need.model_bytes), Bytes(need.activation_bytes), train.batch_size(),
      train.block_size(), Bytes(memory)));
}

}  // namespace bdh::trainer_worker
