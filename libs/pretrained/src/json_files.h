// The JSON files of a pretrained directory.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/pretrained/pretrained.h"
#include "bdh/tokenizer/tokenizer.h"

namespace bdh::pretrained {

using Json = nlohmann::ordered_json;

// A JSON object of at most kMaxJsonBytes. Errors name the file.
absl::StatusOr<Json> ReadJson(const std::string& path);

// What a config says of a model's sizes; any of it may be missing.
struct PartialConfig {
  std::string from;  // "config.json", for messages.
  std::optional<int> n_layer = {}, n_embd = {}, n_head = {}, mlp_internal_dim_multiplier = {},
                     vocab_size = {};
  std::optional<double> dropout = {};
};

// Takes the fields of ModelConfig by the reference's names and leaves the others. InvalidArgumentError names
// a field of another type, and a model_type that is not bdh.
absl::StatusOr<PartialConfig> ReadPartialConfig(const Json& json, const std::string& from);

// The key "training" of config.json, as far as it is there and understood.
TrainingRecord ReadRecord(const Json& config);

std::string ConfigJson(const Description& description, SavedType dtype);
std::string GenerationConfigJson();

// What is written of a tokenizer, its name in tokenizer_config.json. NotFoundError: a name alone that is not
// "byte". InvalidArgumentError: files that make up none.
absl::StatusOr<std::vector<tokenizer::TokenizerFile>> TokenizerFilesToSave(const Description& description);

// The tokenizer that the files of `folder` make up, if they do. InvalidArgumentError: LoadTokenizer's.
absl::Status ReadTokenizer(const std::string& folder, Description& description, bool& found);

}  // namespace bdh::pretrained
