#include "services/lab/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace bdh::lab {

int Report::failed() const {
  return static_cast<int>(
      std::count_if(checks.begin(), checks.end(), [](const Check& c) { return !c.ok(); }));
}

std::string ToText(const Report& report) {
  size_t width = sizeof("check") - 1;
  for (const Check& check : report.checks) width = std::max(width, check.name.size());
  std::string text = absl::StrFormat("%-*s  %14s  %10s\n", width, "check", "max difference", "tolerance");
  for (const Check& check : report.checks) {
    absl::StrAppendFormat(&text, "%-*s  %14.3g  %10.3g  %-6s  %s\n", width, check.name, check.difference,
                          check.tolerance, check.ok() ? "ok" : "FAILED", check.note);
  }
  if (!report.unchecked.empty()) {
    const std::string names = absl::StrJoin(report.unchecked, ", ");
    absl::StrAppendFormat(&text, "not checked: %s\n", absl::Utf8SafeCHexEscape(names));
  }
  absl::StrAppendFormat(&text, "%s: %d checks, %d failed\n", report.file, report.checks.size(),
                        report.failed());
  return text;
}

std::string ToJson(const Report& report) {
  nlohmann::ordered_json json{
      {"file", report.file}, {"ok", report.failed() == 0}, {"checks", nlohmann::json::array()}};
  for (const Check& check : report.checks) {
    json["checks"].push_back({{"name", check.name},
                              {"difference", check.difference},
                              {"tolerance", check.tolerance},
                              {"ok", check.ok()},
                              {"note", check.note}});
  }
  json["unchecked"] = report.unchecked;
  // A path may be any bytes.
  return json.dump(2, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace bdh::lab
