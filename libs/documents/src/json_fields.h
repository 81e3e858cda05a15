// Takes one string and one number out of a JSON object and checks the rest of it, without a tree of it.
// Strings keep bytes that are no UTF-8, for the policy on them is not JSON's.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::documents {

enum class JsonKind { kAbsent, kNull, kString, kNumber, kBool, kObject, kArray };
std::string_view JsonKindName(JsonKind kind);

struct JsonError {
  size_t offset = 0;
  std::string what;
};

struct JsonFields {
  JsonKind text_kind = JsonKind::kAbsent;
  std::string text;
  JsonKind score_kind = JsonKind::kAbsent;
  double score = 0;
};

// Paths are names of fields, outermost first; an empty one is never found. A field that is there twice counts
// as it stands last.
class JsonFieldParser {
 public:
  JsonFieldParser(std::vector<std::string> text_path, std::vector<std::string> score_path);

  // `row` is one value, an object; nothing but white space around it. What it has is in `fields`, which is
  // reused. Nested up to kDepthMax.
  std::optional<JsonError> Parse(std::string_view row, JsonFields& fields) const;
  static constexpr int kDepthMax = 128;

 private:
  class Run;
  const std::vector<std::string> text_path_, score_path_;
};

// Names and kinds of an object's own fields, at most 1000 of them.
std::optional<JsonError> ListJsonFields(std::string_view row,
                                        std::vector<std::pair<std::string, JsonKind>>& out);

// "a.b" as "a", "b".
std::vector<std::string> SplitFieldPath(std::string_view path);

}  // namespace bdh::documents
