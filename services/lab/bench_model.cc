#include "services/lab/bench_model.h"

#include <cmath>
#include <random>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/spec/model_config_json.h"
#include "bdh/tensorfile/safetensors.h"

namespace bdh::lab {
namespace {

constexpr double kStd = 0.02;

// Random weights with a direction u that every x has a part of: an encoder that leans against u by `lean`
// makes neurons fire less often than every second time.
BenchModel Draw(const spec::ModelConfig& config, double lean) {
  BenchModel model{.config = config, .weights = {}};
  std::mt19937_64 generator(1);
  std::normal_distribution<float> normal(0, kStd);
  const int64_t width = config.n_embd;
  const auto u = [width](int64_t i) {
    return (i % 2 == 0 ? -1.0f : 1.0f) / std::sqrt(static_cast<float>(width));
  };
  for (const auto& spec : spec::Weights(config)) {
    Array<float>& tensor = model.weights[spec.name];
    tensor.shape = spec.shape;
    int64_t size = 1;
    for (const int64_t axis : spec.shape) size *= axis;
    tensor.values.resize(size);
    for (float& value : tensor.values) value = normal(generator);
    const bool writes = spec.name == "embed.weight" || spec.name == "decoder";
    const auto strength = static_cast<float>(kStd * std::sqrt(static_cast<double>(width)));
    const int64_t per_head = config.neurons_per_head();
    for (int64_t i = 0; i < size; ++i) {
      if (writes) tensor.values[i] += strength * u(i % width);
      if (spec.name == "encoder") {
        tensor.values[i] -= static_cast<float>(lean * kStd) * u(i / per_head % width);
      }
    }
  }
  return model;
}

absl::StatusOr<double> DensityOf(const BenchModel& model) {
  BDH_ASSIGN_OR_RETURN(const auto engine, engine::BdhModel::Create(model.config, model.Tensors()));
  BDH_ASSIGN_OR_RETURN(const auto state, engine->NewState());
  std::vector<int32_t> tokens;
  for (int t = 0; t < 48; ++t) tokens.push_back(t * 37 % model.config.vocab_size);
  BDH_RETURN_IF_ERROR(engine->Prefill(*state, tokens, {}, {}));
  return engine->DensityOf(*state).active;
}

}  // namespace

std::vector<engine::NamedTensor> BenchModel::Tensors() const {
  std::vector<engine::NamedTensor> tensors;
  for (const auto& [name, array] : weights) tensors.push_back({name, array.shape, array.values});
  return tensors;
}

absl::StatusOr<BenchModel> RandomModel(const spec::ModelConfig& config, double density) {
  BDH_RETURN_IF_ERROR(spec::Validate(config));
  if (!(density > 0 && density <= 0.5)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("density is %g; want more than 0 and at most 0.5", density));
  }
  // How much of u is in x does not depend on how many neurons there are, so a narrow model finds the lean.
  spec::ModelConfig narrow = config;
  narrow.mlp_internal_dim_multiplier = std::min(config.mlp_internal_dim_multiplier, 8);
  if (!spec::Validate(narrow).ok()) narrow = config;
  double low = 0, high = 8;
  for (int round = 0; round < 10; ++round) {
    const double lean = (low + high) / 2;
    BDH_ASSIGN_OR_RETURN(const double found, DensityOf(Draw(narrow, lean)));
    (found > density ? low : high) = lean;
  }
  return Draw(config, (low + high) / 2);
}

absl::StatusOr<BenchModel> ModelOfFile(const std::string& path) {
  BDH_ASSIGN_OR_RETURN(const auto file, tensorfile::SafetensorsFile::Open(path));
  const auto config = file.metadata().find("config");
  if (config == file.metadata().end()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s has no config in its metadata", path));
  }
  BenchModel model;
  BDH_ASSIGN_OR_RETURN(model.config, spec::ModelConfigFromJson(config->second));
  for (const auto& spec : spec::Weights(model.config)) {
    const std::string prefixed = "weight." + spec.name;
    const std::string& name = file.Find(prefixed) != nullptr ? prefixed : spec.name;
    BDH_ASSIGN_OR_RETURN(std::vector<float> values, file.Floats(name));
    model.weights[spec.name] = {file.Find(name)->shape, std::move(values)};
  }
  return model;
}

}  // namespace bdh::lab
