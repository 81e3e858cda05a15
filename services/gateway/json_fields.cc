#include "services/gateway/json_fields.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace bdh::gateway {
namespace {

struct Position {
  size_t line = 1, column = 1;
};

Position PositionOf(std::string_view text, size_t byte) {
  Position at;
  for (const char c : text.substr(0, byte)) {
    at.column = c == '\n' ? 1 : at.column + 1;
    at.line += c == '\n';
  }
  return at;
}

// Where nesting passes `max_depth`, or npos. Done before parsing, so that depth costs no memory.
size_t FindTooDeep(std::string_view text, int max_depth) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > max_depth) return i;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return std::string_view::npos;
}

// nlohmann's "[json.exception.parse_error.101] parse error at line 1, column 2: ..." without its prefix.
std::string Reason(std::string_view what) {
  if (const size_t close = what.find("] "); close != what.npos) what.remove_prefix(close + 2);
  if (what.starts_with("parse error at ")) {
    if (const size_t colon = what.find(": "); colon != what.npos) what.remove_prefix(colon + 2);
  }
  return std::string(what.substr(0, 300));
}

ApiError BadJson(std::string_view text, size_t byte, const std::string& reason) {
  const Position at = PositionOf(text, byte);
  return {.message =
              absl::StrFormat("We could not parse the JSON body of your request at line %d, column %d: %s",
                              at.line, at.column, reason)};
}

}  // namespace

std::optional<ApiError> ParseJsonObject(std::string_view text, int max_depth, Json& out) {
  if (const size_t at = FindTooDeep(text, max_depth); at != text.npos) {
    return BadJson(text, at, absl::StrFormat("nested deeper than %d levels", max_depth));
  }
  try {
    out = Json::parse(text);
  } catch (const Json::parse_error& error) {
    return BadJson(text, error.byte > 0 ? error.byte - 1 : 0, Reason(error.what()));
  } catch (const Json::exception& error) {
    return ApiError{.message = absl::StrFormat("We could not parse the JSON body of your request: %s",
                                               Reason(error.what()))};
  }
  if (out.is_object()) return std::nullopt;
  return ApiError{.message =
                      absl::StrFormat("The body of your request is %s; want a JSON object.", TypeName(out))};
}

std::string_view TypeName(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "a boolean";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a string";
  return value.is_array() ? "an array" : "an object";
}

void JsonFields::Fail(std::string_view name, std::string message, std::optional<std::string> code) {
  if (error_) return;
  error_ = ApiError{.message = std::move(message), .param = Path(name), .code = std::move(code)};
}

void JsonFields::WrongType(const char* name, std::string_view want, const Json& got) {
  Fail(name,
       absl::StrFormat("Invalid type for '%s': expected %s, but got %s instead.", Path(name), want,
                       TypeName(got)),
       "invalid_type");
}

const Json* JsonFields::Value(const char* name) {
  seen_.insert(name);
  if (error_) return nullptr;
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> JsonFields::Bool(const char* name) {
  const Json* value = Value(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  WrongType(name, "a boolean", *value);
  return std::nullopt;
}

std::optional<int64_t> JsonFields::Integer(const char* name, int64_t min, int64_t max) {
  const Json* value = Value(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) {
    WrongType(name, "an integer", *value);
    return std::nullopt;
  }
  // Unsigned numbers above int64 would turn negative in get<int64_t>().
  const bool huge = value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (!huge && value->get<int64_t>() >= min && value->get<int64_t>() <= max) return value->get<int64_t>();
  Fail(name, absl::StrFormat("'%s' is %s; want %d to %d.", Path(name), value->dump(), min, max),
       "integer_out_of_range");
  return std::nullopt;
}

std::optional<double> JsonFields::Number(const char* name, double min, double max) {
  const Json* value = Value(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    WrongType(name, "a number", *value);
    return std::nullopt;
  }
  const auto number = value->get<double>();
  if (number >= min && number <= max) return number;
  Fail(name, absl::StrFormat("'%s' is %s; want %g to %g.", Path(name), value->dump(), min, max),
       "decimal_out_of_range");
  return std::nullopt;
}

std::optional<std::string> JsonFields::Text(const char* name, size_t max_bytes) {
  const Json* value = Value(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    WrongType(name, "a string", *value);
    return std::nullopt;
  }
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() <= max_bytes) return text;
  Fail(name, absl::StrFormat("'%s' is %d bytes long; want at most %d.", Path(name), text.size(), max_bytes),
       "string_above_max_length");
  return std::nullopt;
}

void JsonFields::Unsupported(const char* name, std::string_view why, std::initializer_list<Json> harmless) {
  const Json* value = Value(name);
  if (value == nullptr || std::find(harmless.begin(), harmless.end(), *value) != harmless.end()) return;
  Fail(name, absl::StrFormat("'%s' is not supported with this value: %s.", Path(name), why),
       "unsupported_parameter");
}

void JsonFields::RejectUnknown() {
  for (const auto& [name, value] : object_.items()) {
    if (seen_.count(name) == 0) {
      const std::string shown = name.substr(0, 100);
      return Fail(shown, absl::StrFormat("Unknown parameter: '%s'.", Path(shown)), "unknown_parameter");
    }
  }
}

}  // namespace bdh::gateway
