// Values of a JSON file with their place, so that what is wrong can be said with file and path.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"

namespace bdh::tokenizer {

using Json = nlohmann::json;

class JsonPlace {
 public:
  JsonPlace(const Json& json, std::string path) : json_(&json), path_(std::move(path)) {}

  const Json& json() const { return *json_; }
  const std::string& path() const { return path_; }

  // "tokenizer.json: model.merges[3] <what>".
  absl::Status Refuse(std::string_view what) const {
    return absl::InvalidArgumentError(absl::StrFormat("%s %s", path_, what));
  }

  // A missing key is null.
  JsonPlace At(const std::string& key) const {
    static const Json null;
    const auto found = json_->is_object() ? json_->find(key) : json_->end();
    const std::string separator = path_.ends_with(": ") ? "" : ".";
    return {json_->is_object() && found != json_->end() ? *found : null, path_ + separator + key};
  }
  JsonPlace At(size_t index) const { return {(*json_)[index], absl::StrFormat("%s[%d]", path_, index)}; }
  bool is_null() const { return json_->is_null(); }

  absl::StatusOr<std::string> String() const {
    if (!json_->is_string()) return Refuse("is not a text");
    return json_->get<std::string>();
  }
  absl::StatusOr<bool> Bool(std::optional<bool> missing = std::nullopt) const {
    if (json_->is_null() && missing.has_value()) return *missing;
    if (!json_->is_boolean()) return Refuse("is neither true nor false");
    return json_->get<bool>();
  }
  absl::StatusOr<int64_t> Integer(int64_t min, int64_t max) const {
    const bool fits =
        json_->is_number_integer() && !(json_->is_number_unsigned() && json_->get<uint64_t>() > INT64_MAX);
    if (!fits || json_->get<int64_t>() < min || json_->get<int64_t>() > max) {
      return Refuse(absl::StrFormat("is not a whole number of %d to %d", min, max));
    }
    return json_->get<int64_t>();
  }
  // A text of one character.
  absl::StatusOr<std::string> Character() const;

  absl::Status WantObject() const {
    return json_->is_object() ? absl::OkStatus() : Refuse("is not an object");
  }
  absl::Status WantArray() const { return json_->is_array() ? absl::OkStatus() : Refuse("is not a list"); }

 private:
  const Json* json_;
  std::string path_;
};

// InvalidArgumentError names the file and the byte.
absl::StatusOr<Json> ParseJson(std::string_view file, std::string_view text);

}  // namespace bdh::tokenizer
