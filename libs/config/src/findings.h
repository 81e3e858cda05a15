#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace bdh::config {

// What reading found out: every problem, in the order of reading, and where each value came from. Reading
// goes on after a problem, so that one look shows them all.
class Findings {
 public:
  // More would not be read by anybody.
  static constexpr size_t kMostProblems = 100;

  // `path` is the key it is about, or empty.
  void Add(absl::Status problem, const std::string& path = "");
  // The usual form: "my.yaml:2:3: train.max_steps: is 0; want 1 to 100".
  void Add(std::string_view place, const std::string& path, std::string_view sentence);
  // Reading stops soon when this is true.
  bool full() const { return problems_.size() >= kMostProblems; }

  const std::vector<absl::Status>& problems() const { return problems_; }
  absl::Status First() const { return problems_.empty() ? absl::OkStatus() : problems_[0]; }
  // Whether a problem of this key, or of one of its items, was found.
  bool IsBad(const std::string& path) const;

  // "my.yaml:3", "--set" or a variable, by the key's path.
  std::map<std::string, std::string> origins;

 private:
  std::vector<absl::Status> problems_;
  std::set<std::string> bad_;
};

}  // namespace bdh::config
