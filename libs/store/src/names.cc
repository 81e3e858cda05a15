#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "bdh/base/text.h"
#include "bdh/store/checkpoint.h"

namespace bdh::store {
namespace {

constexpr std::string_view kRuns = "runs/", kSteps = "/steps/";
constexpr size_t kMaxTagLength = 128;

// Decimal without leading zeros, so that a step has one name.
bool IsStep(std::string_view text) {
  if (text.empty() || text.size() > 18) return false;
  if (text.size() > 1 && text[0] == '0') return false;
  return std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

bool IsTagCharacter(char c) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '.' || c == '_' || c == '/' || c == '-';
}

// Names come from anywhere and go into messages.
std::string Quoted(std::string_view name) {
  std::string out;
  for (const char c : name.substr(0, 80)) out += absl::ascii_isprint(c) ? c : '?';
  return absl::StrFormat("\"%s%s\"", out, name.size() > 80 ? "..." : "");
}

}  // namespace

int ElementBytes(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBf16:
    case DType::kF16:
    case DType::kI16:
      return 2;
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
      return 1;
  }
  return 0;
}

std::string CheckpointName(std::string_view run, int64_t step) {
  return absl::StrFormat("%s%s%s%d", kRuns, run, kSteps, step);
}

bool IsCheckpointName(std::string_view reference) {
  return reference.substr(0, kRuns.size()) == kRuns;
}

absl::Status CheckCheckpointName(std::string_view name) {
  const size_t steps = name.find(kSteps);
  if (IsCheckpointName(name) && steps != std::string_view::npos && steps >= kRuns.size() &&
      IsResourceName(name.substr(kRuns.size(), steps - kRuns.size())) &&
      IsStep(name.substr(steps + kSteps.size()))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s is no name of a checkpoint; want runs/{run}/steps/{step}, where run is 1 to 64 of [a-z0-9._-], "
      "beginning with a letter or digit, and step is a number without leading zeros",
      Quoted(name)));
}

absl::Status CheckTagName(std::string_view name) {
  if (!name.empty() && name.size() <= kMaxTagLength && !IsCheckpointName(name) &&
      std::all_of(name.begin(), name.end(), IsTagCharacter)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("%s is no name of a tag; want 1 to %d of [a-z0-9._/-], not beginning with runs/",
                      Quoted(name), kMaxTagLength));
}

}  // namespace bdh::store
