// Reads the fields of one JSON object, each with its type and range, and finds those nobody asked for.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "services/gateway/openai_error.h"

namespace bdh::gateway {

using Json = nlohmann::json;

// Text to a JSON object. Errors say line and column; nesting deeper than `max_depth` is one.
std::optional<ApiError> ParseJsonObject(std::string_view text, int max_depth, Json& out);

// "a string", "an integer", ... for messages.
std::string_view TypeName(const Json& value);

// The first error stays; after one, all answers are empty. An absent field and null are the same.
class JsonFields {
 public:
  // Both outlive this. `path` comes before the names: "messages[0]." or "".
  JsonFields(const Json& object, std::string path, std::optional<ApiError>& error)
      : object_(object), path_(std::move(path)), error_(error) {}

  std::optional<bool> Bool(const char* name);
  std::optional<int64_t> Integer(const char* name, int64_t min, int64_t max);
  std::optional<double> Number(const char* name, double min, double max);
  std::optional<std::string> Text(const char* name, size_t max_bytes);
  // The value itself, or null when absent, null, or after an error.
  const Json* Value(const char* name);

  // A parameter of the API that we do not have: an error, unless absent, null or `harmless`.
  void Unsupported(const char* name, std::string_view why, std::initializer_list<Json> harmless = {});
  // After all others: any field not asked for is an error.
  void RejectUnknown();

  // Keeps the first error. `name` is a field of this object.
  void Fail(std::string_view name, std::string message, std::optional<std::string> code = std::nullopt);
  bool ok() const { return !error_.has_value(); }
  std::string Path(std::string_view name) const { return path_ + std::string(name); }

 private:
  void WrongType(const char* name, std::string_view want, const Json& got);

  const Json& object_;
  const std::string path_;
  std::optional<ApiError>& error_;
  std::set<std::string, std::less<>> seen_;
};

}  // namespace bdh::gateway
