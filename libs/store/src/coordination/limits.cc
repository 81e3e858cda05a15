#include <algorithm>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "coordination/core.h"

namespace bdh::store {
namespace {

constexpr size_t kMaxName = 128;
constexpr size_t kMaxText = 256;
constexpr size_t kMaxLabels = 64;
constexpr size_t kMaxKey = 1024;
constexpr size_t kMaxValue = 1 << 20;
constexpr int kMaxWorkers = 4096;
constexpr int kMaxPage = 1000;

bool IsLowerOrDigit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

absl::Status CheckText(std::string_view what, std::string_view text, size_t max_length, bool upper,
                       bool slash) {
  const bool good = std::all_of(text.begin(), text.end(), [&](char c) {
    return IsLowerOrDigit(c) || c == '.' || c == '_' || c == '-' || (upper && c >= 'A' && c <= 'Z') ||
           (slash && c == '/');
  });
  if (good && !text.empty() && text.size() <= max_length) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s '%s': want 1 to %d of [%sa-z0-9._%s-]", what,
                                                    text.substr(0, max_length), max_length,
                                                    upper ? "A-Z" : "", slash ? "/" : ""));
}

absl::Status CheckDuration(std::string_view what, absl::Duration value, absl::Duration min) {
  if (value >= min && value <= absl::Minutes(10)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s is %s; want %s to 10 minutes", what,
                                                    absl::FormatDuration(value),
                                                    min > absl::ZeroDuration() ? "1 second" : "0"));
}

}  // namespace

absl::Status CheckGroupName(std::string_view name) {
  return CheckText("group", name, kMaxName, /*upper=*/false, /*slash=*/true);
}

absl::Status CheckWorker(const Worker& worker) {
  BDH_RETURN_IF_ERROR(CheckText("worker", worker.name, kMaxName, /*upper=*/false, /*slash=*/false));
  if (worker.address.size() > kMaxText) {
    return absl::InvalidArgumentError(absl::StrFormat("worker %s: its address has %d bytes; want at most %d",
                                                      worker.name, worker.address.size(), kMaxText));
  }
  return CheckLabels(worker.labels);
}

absl::Status CheckSpec(const GroupSpec& spec) {
  if (spec.min_workers < 1 || spec.min_workers > kMaxWorkers) {
    return absl::InvalidArgumentError(
        absl::StrFormat("min_workers is %d; want 1 to %d", spec.min_workers, kMaxWorkers));
  }
  if (spec.max_workers < spec.min_workers || spec.max_workers > kMaxWorkers) {
    return absl::InvalidArgumentError(absl::StrFormat("max_workers is %d; want min_workers (%d) to %d",
                                                      spec.max_workers, spec.min_workers, kMaxWorkers));
  }
  BDH_RETURN_IF_ERROR(CheckDuration("settle_duration", spec.settle, absl::ZeroDuration()));
  return CheckDuration("lease_duration", spec.lease, absl::Seconds(1));
}

absl::Status CheckNamespace(std::string_view space) {
  return CheckText("namespace", space, kMaxText, /*upper=*/true, /*slash=*/true);
}

absl::Status CheckKey(std::string_view key) {
  if (!key.empty() && key.size() <= kMaxKey) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("a key has %d bytes; want 1 to %d", key.size(), kMaxKey));
}

absl::Status CheckValue(std::string_view value) {
  if (value.size() <= kMaxValue) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("a value has %d bytes; want at most %d", value.size(), kMaxValue));
}

absl::Status CheckRun(std::string_view run) {
  if (IsResourceName(run)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("run '%s': want 1 to 64 of [a-z0-9._-], a letter or a digit first", run.substr(0, 64)));
}

absl::Status CheckLabels(const Labels& labels) {
  if (labels.size() > kMaxLabels) {
    return absl::InvalidArgumentError(
        absl::StrFormat("there are %d labels; want at most %d", labels.size(), kMaxLabels));
  }
  for (const auto& [key, value] : labels) {
    if (key.empty() || key.size() > kMaxText || value.size() > kMaxText) {
      return absl::InvalidArgumentError(
          absl::StrFormat("label '%s': want a key of 1 to %d bytes and a value of at most %d",
                          key.substr(0, kMaxText), kMaxText, kMaxText));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPageSize(int size) {
  if (size >= 1 && size <= kMaxPage) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("page size is %d; want 1 to %d", size, kMaxPage));
}

}  // namespace bdh::store
