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
// For Hugging Face's tokenizers: one token a byte, its id the byte.
std::string ByteTokenizerJson();
std::string TokenizerConfigJson(const tokenizer::Tokenizer& tokenizer);

// The tokenizer that the files of `folder` describe. Empty: there are none. InvalidArgumentError: one that
// this release does not have.
absl::StatusOr<std::string> ReadTokenizerName(const std::string& folder);

}  // namespace bdh::pretrained
