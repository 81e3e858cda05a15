// What a check found, and how a list of them is shown.
#pragma once

#include <string>
#include <vector>

namespace bdh::lab {

struct Check {
  std::string name;
  double difference =
      0;  // The largest absolute one, infinite where a number is not finite; for tokens, how many differ.
  double tolerance = 0;
  std::string note;  // What the tolerance is made of, or where a failure begins.

  bool ok() const { return difference <= tolerance; }
};

struct Report {
  std::string file;
  std::vector<Check> checks;
  std::vector<std::string> unchecked;  // Tensors of the file that no check reads.

  int failed() const;
};

// One aligned line a check, and a last line with the outcome.
std::string ToText(const Report& report);
std::string ToJson(const Report& report);

}  // namespace bdh::lab
