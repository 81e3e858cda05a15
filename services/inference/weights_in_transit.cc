#include "services/inference/weights_in_transit.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/config/model_config.h"
#include "bdh/spec/shape.h"
#include "services/inference/tokenizer_in_transit.h"

namespace bdh::inference {
namespace {

using spec::ElementCount;
using spec::ShapeText;

bool IsForeign(const std::string& name) {
  if (TokenizerInTransit::IsPart(name)) return true;
  return std::any_of(std::begin(kForeignPrefixes), std::end(kForeignPrefixes),
                     [&](const char* prefix) { return name.starts_with(prefix); });
}

// Shapes each weight may have; the frequencies are optional and have two forms.
std::map<std::string, std::vector<std::vector<int64_t>>> AcceptedShapes(const spec::ModelConfig& config) {
  std::map<std::string, std::vector<std::vector<int64_t>>> accepted;
  for (const spec::WeightSpec& weight : spec::Weights(config)) accepted[weight.name] = {weight.shape};
  const int64_t neurons = config.neurons_per_head();
  accepted[spec::kFrequenciesName] = {{neurons}, {1, 1, 1, neurons}};
  return accepted;
}

absl::Status CheckInfo(const v1::TensorInfo& info, const std::vector<std::vector<int64_t>>& shapes) {
  if (info.dtype() != v1::DTYPE_F32) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s is of type %s; this release decodes DTYPE_F32", info.name(),
                        v1::DType_Name(info.dtype())));
  }
  const std::vector<int64_t> shape(info.shape().begin(), info.shape().end());
  if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end()) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s has shape %s; the model's config wants %s",
                                                      info.name(), ShapeText(shape), ShapeText(shapes[0])));
  }
  const int64_t wanted = ElementCount(shape) * static_cast<int64_t>(sizeof(float));
  if (info.size_bytes() == wanted) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("tensor %s has %d bytes; its shape %s wants %d",
                                                    info.name(), info.size_bytes(), ShapeText(shape),
                                                    wanted));
}

}  // namespace

absl::StatusOr<spec::ModelConfig> ConfigOf(const v1::Checkpoint& checkpoint) {
  const v1::ModelConfig& model = checkpoint.model();
  const bool complete = model.has_n_layer() && model.has_n_embd() && model.has_n_head() &&
                        model.has_mlp_internal_dim_multiplier() && model.has_vocab_size();
  if (!checkpoint.has_model() || !complete) {
    return absl::InvalidArgumentError(
        absl::StrFormat("checkpoint %s does not say what its model is: n_layer, n_embd, n_head, "
                        "mlp_internal_dim_multiplier and vocab_size must all be in it",
                        checkpoint.name()));
  }
  if (model.has_architecture() && model.architecture() != "bdh") {
    return absl::InvalidArgumentError(
        absl::StrFormat("checkpoint %s is of architecture '%s'; this release decodes bdh", checkpoint.name(),
                        model.architecture()));
  }
  const spec::ModelConfig config = config::ToSpec(model);
  BDH_RETURN_IF_ERROR(spec::Validate(config));
  return config;
}

absl::StatusOr<WeightsInTransit> WeightsInTransit::Expect(const spec::ModelConfig& config,
                                                          const v1::Checkpoint& checkpoint) {
  const auto accepted = AcceptedShapes(config);
  WeightsInTransit weights;
  for (const v1::TensorInfo& info : checkpoint.tensors()) {
    if (IsForeign(info.name())) continue;
    const auto shapes = accepted.find(info.name());
    if (shapes == accepted.end()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tensor %s is not a weight of a BDH model", info.name()));
    }
    BDH_RETURN_IF_ERROR(CheckInfo(info, shapes->second));
    Tensor tensor;
    tensor.shape.assign(info.shape().begin(), info.shape().end());
    tensor.size_bytes = info.size_bytes();
    if (!weights.tensors_.emplace(info.name(), std::move(tensor)).second) {
      return absl::InvalidArgumentError(absl::StrFormat("tensor %s is listed twice", info.name()));
    }
  }
  for (const spec::WeightSpec& weight : spec::Weights(config)) {
    if (weights.tensors_.contains(weight.name)) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s %s is missing", weight.name, ShapeText(weight.shape)));
  }
  return weights;
}

int64_t WeightsInTransit::size_bytes() const {
  int64_t total = 0;
  for (const auto& [name, tensor] : tensors_) total += tensor.size_bytes;
  return total;
}

absl::Status WeightsInTransit::Add(const v1::TensorChunk& chunk) {
  const auto found = tensors_.find(chunk.tensor());
  if (found == tensors_.end()) {
    return absl::DataLossError(
        absl::StrFormat("tensor %s came, but the checkpoint does not list it", chunk.tensor()));
  }
  Tensor& tensor = found->second;
  const auto size = static_cast<int64_t>(chunk.data().size());
  if (chunk.offset_bytes() != tensor.filled || size > tensor.size_bytes - tensor.filled) {
    return absl::DataLossError(absl::StrFormat(
        "tensor %s: %d bytes came for offset %d, where %d of %d were expected", chunk.tensor(), size,
        chunk.offset_bytes(), tensor.size_bytes - tensor.filled, tensor.size_bytes));
  }
  if (tensor.values.empty()) tensor.values.resize(tensor.size_bytes / sizeof(float));
  std::memcpy(reinterpret_cast<char*>(tensor.values.data()) + tensor.filled, chunk.data().data(), size);
  tensor.filled += size;
  return absl::OkStatus();
}

absl::Status WeightsInTransit::CheckWhole() const {
  for (const auto& [name, tensor] : tensors_) {
    if (tensor.filled == tensor.size_bytes) continue;
    return absl::DataLossError(absl::StrFormat("tensor %s came only in part: %d of %d bytes", name,
                                               tensor.filled, tensor.size_bytes));
  }
  return absl::OkStatus();
}

std::vector<engine::NamedTensor> WeightsInTransit::tensors() const {
  std::vector<engine::NamedTensor> named;
  for (const auto& [name, tensor] : tensors_) named.push_back({name, tensor.shape, tensor.values});
  return named;
}

}  // namespace bdh::inference
