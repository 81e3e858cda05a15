#include "bdh/spec/model_config_json.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::spec {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::pair<const char*, int ModelConfig::*> kIntegers[] = {
    {"n_layer", &ModelConfig::n_layer},
    {"n_embd", &ModelConfig::n_embd},
    {"n_head", &ModelConfig::n_head},
    {"mlp_internal_dim_multiplier", &ModelConfig::mlp_internal_dim_multiplier},
    {"vocab_size", &ModelConfig::vocab_size},
};
constexpr char kDropout[] = "dropout";

absl::Status WrongField(std::string_view field, std::string_view want) {
  return absl::InvalidArgumentError(absl::StrFormat("model config: %s %s", field, want));
}

absl::Status ReadInteger(const Json& object, const char* field, int& out) {
  const auto found = object.find(field);
  if (found == object.end()) return WrongField(field, "is missing; want a whole number");
  // Compared as a double first: a JSON integer may lie outside every integer type of ours.
  const bool fits = found->is_number_integer() && found->get<double>() >= std::numeric_limits<int>::min() &&
                    found->get<double>() <= std::numeric_limits<int>::max();
  if (!fits) return WrongField(field, "has another type or size; want a whole number of at most 31 bits");
  out = found->get<int>();
  return absl::OkStatus();
}

absl::Status CheckFieldNames(const Json& object) {
  for (const auto& [name, value] : object.items()) {
    bool known = name == kDropout;
    for (const auto& [field, member] : kIntegers) known = known || name == field;
    if (!known) {
      return WrongField(name,
                        "is unknown; want n_layer, n_embd, n_head, mlp_internal_dim_multiplier, vocab_size, "
                        "dropout");
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string ToJson(const ModelConfig& config) {
  Json object;
  for (const auto& [field, member] : kIntegers) object[field] = config.*member;
  object[kDropout] = config.dropout;
  return object.dump();
}

absl::StatusOr<ModelConfig> ModelConfigFromJson(std::string_view text) {
  const Json object = Json::parse(text, /*callback=*/nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return absl::InvalidArgumentError("model config: not a JSON object such as {\"n_layer\": 6, ...}");
  }
  BDH_RETURN_IF_ERROR(CheckFieldNames(object));
  ModelConfig config;
  for (const auto& [field, member] : kIntegers) {
    BDH_RETURN_IF_ERROR(ReadInteger(object, field, config.*member));
  }
  config.dropout = 0;
  if (const auto found = object.find(kDropout); found != object.end()) {
    if (!found->is_number()) return WrongField(kDropout, "has another type; want a number");
    config.dropout = found->get<double>();
  }
  BDH_RETURN_IF_ERROR(Annotate(Validate(config), "model config"));
  return config;
}

}  // namespace bdh::spec
