#include "state_dict.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/spec/shape.h"
#include "elements.h"

namespace bdh::pretrained {
namespace {

using spec::ShapeText;

// What torch.compile, DataParallel and wrapping modules put before a name, in any order.
constexpr std::string_view kPrefixes[] = {"_orig_mod.", "module.", "model."};
// A layer that early versions of the reference had and never used.
constexpr std::string_view kStrays[] = {"lm_gate", "lm_gate.weight"};
constexpr std::string_view kNames[] = {"embed.weight", "encoder", "encoder_v",
                                       "decoder",      "lm_head", spec::kFrequenciesName};

std::string_view WithoutPrefixes(std::string_view name) {
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view prefix : kPrefixes) {
      if (!name.starts_with(prefix)) continue;
      name.remove_prefix(prefix.size());
      found = true;
    }
  }
  return name;
}

template <class Names>
bool Contains(const Names& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

const WeightInfo* Find(const std::vector<WeightInfo>& weights, std::string_view name) {
  const auto found = std::find_if(weights.begin(), weights.end(),
                                  [&](const WeightInfo& weight) { return weight.name == name; });
  return found == weights.end() ? nullptr : &*found;
}

absl::Status Complain(const WeightInfo& weight, std::string_view complaint) {
  return absl::InvalidArgumentError(absl::StrFormat("tensor %s %s", weight.found_as, complaint));
}

// The tensor that shows sizes, with `axes` axes, none of them 0 or beyond what a config may say.
absl::StatusOr<const WeightInfo*> Showing(const std::vector<WeightInfo>& weights, std::string_view name,
                                          size_t axes, std::string_view want) {
  const WeightInfo* weight = Find(weights, name);
  if (weight == nullptr) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s %s is missing", name, want));
  }
  const bool sane = weight->shape.size() == axes &&
                    std::all_of(weight->shape.begin(), weight->shape.end(),
                                [](int64_t size) { return size > 0 && size < (int64_t{1} << 31); });
  if (sane) return weight;
  return Complain(*weight, absl::StrFormat("has shape %s; want %s", ShapeText(weight->shape), want));
}

// What is said must be what is seen.
absl::Status CheckSaid(const PartialConfig& said, std::string_view field, std::optional<int> value, int seen,
                       std::string_view where) {
  if (!value.has_value() || *value == seen) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: %s is %d, but %s shows %d", said.from, field, *value, where, seen));
}

absl::StatusOr<int> Layers(const PartialConfig& said, std::optional<int> n_layer) {
  if (n_layer.has_value() && said.n_layer.has_value() && *n_layer != *said.n_layer) {
    return absl::InvalidArgumentError(
        absl::StrFormat("n_layer is given as %d, but %s says %d", *n_layer, said.from, *said.n_layer));
  }
  if (n_layer.has_value()) return *n_layer;
  if (said.n_layer.has_value()) return *said.n_layer;
  return absl::InvalidArgumentError(
      "nothing says n_layer, how often the weights are passed, and no weight shows it; give it (bdhctl model "
      "import --n-layer N), or put a config.json with it beside the file");
}

bool IsFrequencies(const WeightInfo& weight, int64_t neurons) {
  return weight.shape == std::vector<int64_t>{neurons} ||
         weight.shape == std::vector<int64_t>{1, 1, 1, neurons};
}

}  // namespace

absl::StatusOr<std::vector<WeightInfo>> NameWeights(const std::vector<StoredTensor>& stored,
                                                    std::vector<std::string>& notes) {
  std::vector<WeightInfo> weights;
  for (const StoredTensor& tensor : stored) {
    const std::string name(WithoutPrefixes(tensor.name));
    if (Contains(kStrays, name)) {
      notes.push_back(absl::StrFormat("left out %s, which the reference never uses", tensor.name));
      continue;
    }
    WeightInfo weight{name, tensor.name, tensor.dtype, tensor.shape, tensor.size_bytes};
    if (!Contains(kNames, name)) {
      return Complain(weight,
                      "is no weight of a BDH: want embed.weight, encoder, encoder_v, decoder, lm_head and "
                      "attn.freqs");
    }
    if (const WeightInfo* other = Find(weights, name)) {
      return Complain(weight, absl::StrFormat("is %s, and so is tensor %s", name, other->found_as));
    }
    weights.push_back(std::move(weight));
  }
  return weights;
}

absl::StatusOr<spec::ModelConfig> DeriveConfig(const std::vector<WeightInfo>& weights,
                                               const PartialConfig& said, std::optional<int> n_layer) {
  BDH_ASSIGN_OR_RETURN(const WeightInfo* encoder,
                       Showing(weights, "encoder", 3, "[n_head, n_embd, neurons of a head]"));
  BDH_ASSIGN_OR_RETURN(const WeightInfo* embed, Showing(weights, "embed.weight", 2, "[vocab_size, n_embd]"));
  const int64_t width = encoder->shape[1], neurons = encoder->shape[0] * encoder->shape[2];
  if (neurons % width != 0 || neurons / width >= int64_t{1} << 31) {
    return Complain(*encoder, absl::StrFormat("has shape %s, so %d neurons, which is no whole multiple of "
                                              "n_embd %d (mlp_internal_dim_multiplier)",
                                              ShapeText(encoder->shape), neurons, width));
  }
  spec::ModelConfig config{.n_embd = static_cast<int>(width),
                           .n_head = static_cast<int>(encoder->shape[0]),
                           .mlp_internal_dim_multiplier = static_cast<int>(neurons / width),
                           .vocab_size = static_cast<int>(embed->shape[0]),
                           .dropout = said.dropout.value_or(0)};
  BDH_RETURN_IF_ERROR(CheckSaid(said, "n_embd", said.n_embd, config.n_embd, "tensor encoder"));
  BDH_RETURN_IF_ERROR(CheckSaid(said, "n_head", said.n_head, config.n_head, "tensor encoder"));
  BDH_RETURN_IF_ERROR(CheckSaid(said, "mlp_internal_dim_multiplier", said.mlp_internal_dim_multiplier,
                                config.mlp_internal_dim_multiplier, "tensor encoder"));
  BDH_RETURN_IF_ERROR(
      CheckSaid(said, "vocab_size", said.vocab_size, config.vocab_size, "tensor embed.weight"));
  BDH_ASSIGN_OR_RETURN(config.n_layer, Layers(said, n_layer));
  BDH_RETURN_IF_ERROR(spec::Validate(config));
  return config;
}

absl::Status CheckWeights(const spec::ModelConfig& config, std::vector<WeightInfo>& weights) {
  std::vector<WeightInfo> ordered;
  for (const spec::WeightSpec& want : spec::Weights(config)) {
    const WeightInfo* weight = Find(weights, want.name);
    if (weight == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tensor %s %s is missing", want.name, ShapeText(want.shape)));
    }
    if (weight->shape != want.shape) {
      return Complain(
          *weight, absl::StrFormat("has shape %s; want %s", ShapeText(weight->shape), ShapeText(want.shape)));
    }
    ordered.push_back(*weight);
  }
  if (const WeightInfo* frequencies = Find(weights, spec::kFrequenciesName)) {
    if (!IsFrequencies(*frequencies, config.neurons_per_head())) {
      return Complain(*frequencies,
                      absl::StrFormat("has shape %s; want [1, 1, 1, %d]", ShapeText(frequencies->shape),
                                      config.neurons_per_head()));
    }
    ordered.push_back(*frequencies);
  }
  for (const WeightInfo& weight : ordered) {
    if (!IsWeightType(weight.dtype)) {
      return Complain(weight, absl::StrFormat("is of type %s; want F32, F16, BF16 or F64", weight.dtype));
    }
  }
  weights = std::move(ordered);
  return absl::OkStatus();
}

}  // namespace bdh::pretrained
