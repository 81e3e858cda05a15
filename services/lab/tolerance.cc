#include "services/lab/tolerance.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_format.h"

namespace bdh::lab {
namespace {

// Infinity if one of the two is no finite number: such a number agrees with nothing, not even with itself.
double Apart(double got, double want) {
  const bool finite = std::isfinite(got) && std::isfinite(want);
  return finite ? std::fabs(got - want) : std::numeric_limits<double>::infinity();
}

double LargestFinite(const std::vector<float>& values) {
  double largest = 0;
  for (float value : values) {
    if (std::isfinite(value)) largest = std::max(largest, std::fabs(double{value}));
  }
  return largest;
}

}  // namespace

Check CompareRelative(std::string_view name, const std::vector<float>& got, const std::vector<float>& want,
                      double relative, std::string_view largest_what) {
  double difference = got.size() == want.size() ? 0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < want.size() && i < got.size(); ++i)
    difference = std::max(difference, Apart(got[i], want[i]));
  const double largest = LargestFinite(want);
  return {std::string(name), difference, relative * largest,
          absl::StrFormat("tolerance is %g of the largest %s, %.3g", relative, largest_what, largest)};
}

Check CompareAbsolute(std::string_view name, double got, double want, double tolerance) {
  return {std::string(name), Apart(got, want), tolerance, absl::StrFormat("%.6f, reference %.6f", got, want)};
}

Check CompareTokens(std::string_view name, const std::vector<int64_t>& got, const std::vector<int64_t>& want,
                    size_t given) {
  Check check{.name = std::string(name), .difference = 0, .tolerance = 0, .note = {}};
  for (size_t i = given; i < want.size(); ++i) {
    const bool same = i < got.size() && got[i] == want[i];
    if (!same && check.difference++ == 0) {
      check.note =
          absl::StrFormat("first at token %d: %d, reference %d", i, i < got.size() ? got[i] : -1, want[i]);
    }
  }
  if (check.ok()) check.note = absl::StrFormat("%d tokens after a prompt of %d", want.size() - given, given);
  return check;
}

}  // namespace bdh::lab
