#include "bdh/spec/shape.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace bdh::spec {

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrFormat("[%s]", absl::StrJoin(shape, ", "));
}

int64_t ElementCount(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

}  // namespace bdh::spec
