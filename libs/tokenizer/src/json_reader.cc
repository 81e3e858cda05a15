#include "json_reader.h"

#include "utf8.h"

namespace bdh::tokenizer {
namespace {

// Deeper than any tokenizer is: a guard for the code that walks over it.
constexpr int kMaxDepth = 32;

}  // namespace

absl::StatusOr<std::string> JsonPlace::Character() const {
  if (!json_->is_string() || ToUnits(json_->get_ref<const std::string&>()).size() != 1) {
    return Refuse("is not a text of one character");
  }
  return json_->get<std::string>();
}

absl::StatusOr<Json> ParseJson(std::string_view file, std::string_view text) {
  bool too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  try {
    Json json = Json::parse(text, watch);
    if (too_deep) {
      return absl::InvalidArgumentError(absl::StrFormat("%s: is nested deeper than %d", file, kMaxDepth));
    }
    if (!json.is_object())
      return absl::InvalidArgumentError(absl::StrFormat("%s: is not a JSON object", file));
    return json;
  } catch (const Json::parse_error& error) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: is not valid JSON at byte %d", file, error.byte));
  } catch (const Json::out_of_range&) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: has a number that no double holds", file));
  }
}

}  // namespace bdh::tokenizer
