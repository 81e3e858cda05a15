#include "services/bdhctl/model_record.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/version.h"
#include "bdh/config/model_config.h"
#include "bdh/spec/shape.h"
#include "services/bdhctl/client/checkpoint_io.h"

namespace bdh::bdhctl {
namespace {

pretrained::TrainingRecord Record(const v1::Checkpoint& checkpoint) {
  pretrained::TrainingRecord record{.checkpoint = checkpoint.name(),
                                    .dataset = checkpoint.cursor().dataset(),
                                    .dataset_hash = checkpoint.cursor().dataset_hash(),
                                    .step = checkpoint.step(),
                                    .tokens_seen = checkpoint.tokens_seen(),
                                    .config_yaml = checkpoint.config_yaml(),
                                    .software_version = checkpoint.software_version()};
  if (checkpoint.has_train_loss()) record.train_loss = checkpoint.train_loss();
  if (checkpoint.has_validation_loss()) record.validation_loss = checkpoint.validation_loss();
  return record;
}

void FillRecord(const pretrained::TrainingRecord& record, v1::Checkpoint& checkpoint) {
  checkpoint.set_config_yaml(record.config_yaml);
  checkpoint.set_step(record.step);
  checkpoint.set_tokens_seen(record.tokens_seen);
  if (record.train_loss) checkpoint.set_train_loss(*record.train_loss);
  if (record.validation_loss) checkpoint.set_validation_loss(*record.validation_loss);
  if (record.dataset.empty()) return;
  checkpoint.mutable_cursor()->set_dataset(record.dataset);
  checkpoint.mutable_cursor()->set_dataset_hash(record.dataset_hash);
  checkpoint.mutable_cursor()->set_next_step(record.step);
}

}  // namespace

absl::StatusOr<pretrained::Description> Describe(const v1::Checkpoint& checkpoint) {
  const pretrained::Description description{
      .title = checkpoint.name(),
      .config = config::ToSpec(checkpoint.model()),
      .tokenizer = checkpoint.tokenizer().empty() ? "byte" : checkpoint.tokenizer(),
      .record = Record(checkpoint)};
  BDH_RETURN_IF_ERROR(
      Annotate(spec::Validate(description.config), absl::StrFormat("the model of %s", checkpoint.name())));
  return description;
}

v1::Checkpoint ToCheckpoint(const pretrained::PretrainedModel& model) {
  v1::Checkpoint checkpoint;
  for (const pretrained::WeightInfo& weight : model.weights()) {
    v1::TensorInfo& tensor = *checkpoint.add_tensors();
    tensor.set_name(weight.name);
    tensor.set_dtype(v1::DTYPE_F32);
    for (const int64_t size : weight.shape) tensor.add_shape(size);
    tensor.set_size_bytes(spec::ElementCount(weight.shape) * static_cast<int64_t>(sizeof(float)));
  }
  for (const tokenizer::TokenizerFile& file : model.tokenizer_files()) {
    v1::TensorInfo& tensor = *checkpoint.add_tensors();
    tensor.set_name(TokenizerTensor(file.name));
    tensor.set_dtype(v1::DTYPE_U8);
    tensor.add_shape(static_cast<int64_t>(file.bytes.size()));
    tensor.set_size_bytes(static_cast<int64_t>(file.bytes.size()));
  }
  *checkpoint.mutable_model() = config::ToProto(model.config());
  FillRecord(model.record(), checkpoint);
  checkpoint.set_tokenizer(model.tokenizer());
  checkpoint.set_software_version(Version());
  return checkpoint;
}

absl::StatusOr<std::string> TensorBytes(const pretrained::PretrainedModel& model, int index) {
  const auto i = static_cast<size_t>(index);
  const size_t weights = model.weights().size();
  if (i >= weights) return model.tokenizer_files()[i - weights].bytes;
  BDH_ASSIGN_OR_RETURN(const auto values, model.Floats(model.weights()[i]));
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

}  // namespace bdh::bdhctl
