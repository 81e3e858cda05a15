#include "findings.h"

#include <utility>

#include "absl/strings/str_format.h"

namespace bdh::config {

void Findings::Add(absl::Status problem, const std::string& path) {
  bad_.insert(path.substr(0, path.find('[')));
  if (!full()) problems_.push_back(std::move(problem));
}

void Findings::Add(std::string_view place, const std::string& path, std::string_view sentence) {
  Add(absl::InvalidArgumentError(absl::StrFormat("%s%s: %s", place, path, sentence)), path);
}

bool Findings::IsBad(const std::string& path) const {
  return bad_.count(path) > 0;
}

}  // namespace bdh::config
