// Which column holds the text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::documents {

struct ColumnInfo {
  std::string name;
  bool is_text = false;
};

// `wanted` if it is there, else the usual one, else the only one that holds text. InvalidArgumentError begins
// with `where` ("file:line: ") and lists the columns.
absl::StatusOr<std::string> ChooseTextColumn(std::string_view where, std::string_view wanted,
                                             const std::vector<ColumnInfo>& columns);

// The refusal of a column that is not there.
absl::Status NoSuchColumn(std::string_view where, std::string_view wanted,
                          const std::vector<ColumnInfo>& columns);

}  // namespace bdh::documents
