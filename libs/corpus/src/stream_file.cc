#include "stream_file.h"

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"

namespace bdh::corpus {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

std::string StreamToJson(const DatasetStore::StreamSpec& spec) {
  Json json = {{"format", "bdh-stream 1"},
               {"name", spec.dataset.name},
               {"tokenizer", spec.dataset.tokenizer},
               {"source_hash", spec.source_hash},
               {"source_hex", absl::BytesToHexString(spec.source)}};
  if (spec.dataset.validation_fraction.has_value()) {
    json["validation_fraction"] = *spec.dataset.validation_fraction;
  }
  if (spec.dataset.end_of_text.has_value()) json["end_of_text"] = *spec.dataset.end_of_text;
  return json.dump(2) + "\n";
}

absl::StatusOr<DatasetStore::StreamSpec> StreamFromJson(std::string_view text, const std::string& path) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  DatasetStore::StreamSpec spec;
  try {  // nlohmann's typed access throws.
    spec.dataset.name = json.at("name").get<std::string>();
    spec.dataset.tokenizer = json.at("tokenizer").get<std::string>();
    spec.source_hash = json.at("source_hash").get<std::string>();
    spec.source = absl::HexStringToBytes(json.at("source_hex").get<std::string>());
    if (json.contains("validation_fraction")) {
      spec.dataset.validation_fraction = json.at("validation_fraction").get<double>();
    }
    if (json.contains("end_of_text")) spec.dataset.end_of_text = json.at("end_of_text").get<bool>();
  } catch (const Json::exception& e) {
    return absl::DataLossError(
        absl::StrFormat("%s does not read: %s; delete the data set and add it again", path, e.what()));
  }
  return spec;
}

}  // namespace bdh::corpus
