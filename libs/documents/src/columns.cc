#include "columns.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace bdh::documents {
namespace {

constexpr size_t kColumnsNamed = 50;
constexpr std::string_view kUsual[] = {"text",        "content",  "contents", "document", "body",
                                       "raw_content", "article",  "story",    "code",     "passage",
                                       "page",        "sentence", "output",   "prompt"};

std::string ListColumns(const std::vector<ColumnInfo>& columns) {
  std::string out;
  for (size_t i = 0; i < std::min(columns.size(), kColumnsNamed); ++i) {
    absl::StrAppendFormat(&out, "%s%s", i == 0 ? "" : ", ", columns[i].name);
  }
  if (columns.size() > kColumnsNamed)
    absl::StrAppendFormat(&out, " and %d more", columns.size() - kColumnsNamed);
  return out.empty() ? "none" : out;
}

}  // namespace

absl::Status NoSuchColumn(std::string_view where, std::string_view wanted,
                          const std::vector<ColumnInfo>& columns) {
  return absl::InvalidArgumentError(
      absl::StrFormat("%sthere is no column '%s'; the columns are %s", where, wanted, ListColumns(columns)));
}

absl::StatusOr<std::string> ChooseTextColumn(std::string_view where, std::string_view wanted,
                                             const std::vector<ColumnInfo>& columns) {
  const auto has = [&](std::string_view name, bool text_only) {
    return std::any_of(columns.begin(), columns.end(),
                       [&](const ColumnInfo& c) { return c.name == name && (c.is_text || !text_only); });
  };
  if (!wanted.empty()) {
    if (has(wanted, false)) return std::string(wanted);
    return NoSuchColumn(where, wanted, columns);
  }
  for (const std::string_view usual : kUsual) {
    if (has(usual, true)) return std::string(usual);
  }
  const auto text = [](const ColumnInfo& c) { return c.is_text; };
  if (std::count_if(columns.begin(), columns.end(), text) == 1) {
    return std::find_if(columns.begin(), columns.end(), text)->name;
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "%sno column is surely the text; choose one (text_column) of %s", where, ListColumns(columns)));
}

}  // namespace bdh::documents
