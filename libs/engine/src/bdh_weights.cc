#include "bdh_weights.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/spec/model_config_json.h"
#include "bdh/spec/shape.h"

namespace bdh::engine {
namespace {

using kernels::DType;
using kernels::Layout;
using kernels::WeightMatrix;
using spec::ElementCount;
using spec::ShapeText;

// 1 x 1 x 1 x N, as the reference registers its buffer, is N.
std::vector<int64_t> WithoutLeadingOnes(const std::vector<int64_t>& shape) {
  size_t begin = 0;
  while (begin + 1 < shape.size() && shape[begin] == 1) ++begin;
  return {shape.begin() + begin, shape.end()};
}

absl::Status CheckTensor(const NamedTensor& tensor, const std::vector<int64_t>& given,
                         const std::vector<int64_t>& wanted) {
  if (given != wanted) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s has shape %s; the model's config wants %s",
                                                      tensor.name, ShapeText(given), ShapeText(wanted)));
  }
  if (static_cast<int64_t>(tensor.values.size()) != ElementCount(wanted)) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s holds %d numbers; its shape %s wants %d",
                                                      tensor.name, tensor.values.size(), ShapeText(wanted),
                                                      ElementCount(wanted)));
  }
  for (size_t i = 0; i < tensor.values.size(); ++i) {
    if (std::isfinite(tensor.values[i])) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s is damaged: element %d is %g, which is not a finite number", tensor.name,
                        i, tensor.values[i]));
  }
  return absl::OkStatus();
}

// The clocks of a head must go by pairs, because pairs are what RoPE turns.
absl::Status CheckFrequencyPairs(std::span<const float> frequencies) {
  for (size_t i = 0; i + 1 < frequencies.size(); i += 2) {
    if (frequencies[i] == frequencies[i + 1]) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s: neurons %d and %d are one pair but have the frequencies %g and %g",
                        spec::kFrequenciesName, i, i + 1, frequencies[i], frequencies[i + 1]));
  }
  return absl::OkStatus();
}

std::string Fingerprint(const spec::ModelConfig& config, const Tensors& tensors,
                        std::span<const float> frequencies) {
  spec::ModelConfig decoded = config;
  decoded.dropout = 0;  // It does not act here.
  std::string summary = spec::ToJson(decoded);
  const auto add = [&summary](std::string_view name, std::span<const float> values) {
    const std::string_view bytes(reinterpret_cast<const char*>(values.data()), values.size_bytes());
    summary += absl::StrFormat("\n%s f32 %s", name, Sha256Hex(bytes));
  };
  for (const spec::WeightSpec& weight : spec::Weights(config)) {
    add(weight.name, tensors.at(weight.name)->values);
  }
  add(spec::kFrequenciesName, frequencies);
  return Sha256Hex(summary);
}

std::vector<float> FrequenciesOf(const spec::ModelConfig& config, const Tensors& tensors) {
  const auto found = tensors.find(spec::kFrequenciesName);
  if (found == tensors.end()) return spec::RopeFrequencies(config.neurons_per_head());
  return {found->second->values.begin(), found->second->values.end()};
}

// Gives out one piece of memory after another, each at a cache line.
class Arena {
 public:
  explicit Arena(void* memory) : next_(static_cast<char*>(memory)) {}
  void* Take(int64_t bytes) {
    void* taken = next_;
    next_ += kernels::RoundUp(bytes, 64);
    return taken;
  }

 private:
  char* next_;
};

// Masks, and values as if every neuron fired: pages that are not written take no memory.
int64_t FirstLayerBytes(const Geometry& geometry) {
  if (!geometry.keeps_first_layer()) return 0;
  return geometry.config.vocab_size * (geometry.masks * 2 + geometry.keys * 4);
}

}  // namespace

absl::StatusOr<Tensors> CheckTensors(const spec::ModelConfig& config, std::span<const NamedTensor> given) {
  Tensors tensors;
  for (const NamedTensor& tensor : given) {
    if (!tensors.emplace(tensor.name, &tensor).second) {
      return absl::InvalidArgumentError(absl::StrFormat("tensor %s is given twice", tensor.name));
    }
  }
  size_t known = 0;
  for (const spec::WeightSpec& weight : spec::Weights(config)) {
    const auto found = tensors.find(weight.name);
    if (found == tensors.end()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tensor %s %s is missing", weight.name, ShapeText(weight.shape)));
    }
    BDH_RETURN_IF_ERROR(CheckTensor(*found->second, found->second->shape, weight.shape));
    ++known;
  }
  if (const auto found = tensors.find(spec::kFrequenciesName); found != tensors.end()) {
    const NamedTensor& frequencies = *found->second;
    BDH_RETURN_IF_ERROR(
        CheckTensor(frequencies, WithoutLeadingOnes(frequencies.shape), {config.neurons_per_head()}));
    BDH_RETURN_IF_ERROR(CheckFrequencyPairs(frequencies.values));
    ++known;
  }
  if (known == tensors.size()) return tensors;
  for (const auto& [name, tensor] : tensors) {
    bool is_known = name == spec::kFrequenciesName;
    for (const spec::WeightSpec& weight : spec::Weights(config)) is_known = is_known || weight.name == name;
    if (!is_known) {
      return absl::InvalidArgumentError(absl::StrFormat("tensor %s is not a weight of a BDH model", name));
    }
  }
  return tensors;
}

int64_t BdhWeights::Bytes(const Geometry& geometry, DType dtype) {
  const spec::ModelConfig& config = geometry.config;
  const auto packed = [dtype](Layout layout, int64_t rows, int64_t columns) {
    return kernels::RoundUp(kernels::PackedBytes(dtype, layout, rows, columns), 64);
  };
  int64_t bytes = (config.vocab_size * geometry.width + geometry.pairs) * 4 +
                  packed(Layout::kPanels, config.n_embd, config.vocab_size) + FirstLayerBytes(geometry);
  for (const Segment& segment : geometry.segments) {
    bytes += packed(Layout::kPanels, config.n_embd, segment.neurons) +
             2 * packed(Layout::kRows, segment.neurons, config.n_embd);
  }
  return bytes;
}

void BdhWeights::KeepFirstLayer(const Geometry& geometry, const kernels::Kernels& kernels) {
  const int64_t tokens = geometry.config.vocab_size;
  const auto segments = static_cast<int64_t>(geometry.segments.size());
  first_layer_.resize(tokens * segments);
  auto* masks = static_cast<uint16_t*>(first_memory_.data());
  float* values = first_memory_.floats() + kernels::RoundUp(tokens * geometry.masks, 32) / 2;
  std::vector<float> active(kRows * kSegmentNeurons);
  for (int64_t index = 0; index < segments; ++index) {
    const int64_t blocks = geometry.segments[index].blocks, stride = geometry.segments[index].padded();
    for (int64_t first = 0; first < tokens; first += kRows) {
      const int64_t rows = std::min(kRows, tokens - first);
      kernels.product(embedding(first), rows, width_, encoder_[index], /*relu=*/true, active.data(), stride);
      for (int64_t row = 0; row < rows; ++row) {
        first_layer_[(first + row) * segments + index] = {masks, values};
        values += kernels.pack(active.data() + row * stride, blocks, masks, values);
        masks += kernels::RoundUp(blocks, 32);
      }
    }
  }
}

absl::StatusOr<BdhWeights> BdhWeights::Pack(const Geometry& geometry, const Tensors& tensors, DType dtype,
                                            const kernels::Kernels& kernels) {
  const spec::ModelConfig& config = geometry.config;
  BdhWeights weights;
  weights.width_ = geometry.width;
  weights.memory_ = Buffer(Bytes(geometry, dtype) - FirstLayerBytes(geometry));
  weights.first_memory_ = Buffer(FirstLayerBytes(geometry));
  if (weights.memory_.data() == nullptr || (geometry.keeps_first_layer() && !weights.first_memory_.data())) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("no memory for weights of %s", FormatBytes(Bytes(geometry, dtype))));
  }
  Arena arena(weights.memory_.data());
  const int64_t width = config.n_embd, per_head = config.neurons_per_head();

  auto* embedding = static_cast<float*>(arena.Take(config.vocab_size * geometry.width * 4));
  weights.embedding_ = embedding;
  for (int64_t token = 0; token < config.vocab_size; ++token) {
    float* row = embedding + token * geometry.width;
    std::copy_n(tensors.at("embed.weight")->values.data() + token * width, width, row);
    kernels.layer_norm(row, width, row);
  }
  const std::vector<float> frequencies = FrequenciesOf(config, tensors);
  auto* pairs = static_cast<float*>(arena.Take(geometry.pairs * 4));
  weights.frequencies_ = pairs;
  for (int64_t pair = 0; pair < per_head / 2; ++pair) pairs[pair] = frequencies[2 * pair];

  const auto pack = [&](const float* values, int64_t rows, int64_t columns, int64_t row_stride,
                        int64_t column_stride, Layout layout) {
    return kernels::Pack(values, rows, columns, row_stride, column_stride, dtype, layout,
                         arena.Take(kernels::PackedBytes(dtype, layout, rows, columns)));
  };
  for (const Segment& segment : geometry.segments) {
    // [heads, width, neurons] both, so the gate's rows are the columns of what is given.
    const int64_t at = segment.head * width * per_head + segment.begin;
    weights.encoder_.push_back(pack(tensors.at("encoder")->values.data() + at, width, segment.neurons,
                                    per_head, 1, Layout::kPanels));
    weights.gate_.push_back(pack(tensors.at("encoder_v")->values.data() + at, segment.neurons, width, 1,
                                 per_head, Layout::kRows));
    const int64_t row = segment.head * per_head + segment.begin;
    weights.decoder_.push_back(pack(tensors.at("decoder")->values.data() + row * width, segment.neurons,
                                    width, width, 1, Layout::kRows));
  }
  weights.lm_head_ = pack(tensors.at("lm_head")->values.data(), width, config.vocab_size, config.vocab_size,
                          1, Layout::kPanels);
  if (geometry.keeps_first_layer()) weights.KeepFirstLayer(geometry, kernels);
  weights.fingerprint_ = Fingerprint(config, tensors, frequencies);
  return weights;
}

}  // namespace bdh::engine
