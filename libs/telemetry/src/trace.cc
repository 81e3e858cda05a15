#include "bdh/telemetry/trace.h"

#include <algorithm>

#include "bdh/base/text.h"

namespace bdh::telemetry {
namespace {

constexpr size_t kTraceDigits = 32, kSpanDigits = 16;

// Lower-case hexadecimal, and not all zero, which stands for nothing.
bool IsId(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos &&
         text.find_first_not_of('0') != std::string_view::npos;
}

}  // namespace

std::string Trace::ToString() const {
  return "00-" + ids.trace_id + "-" + ids.span_id + "-01";
}

Trace Trace::Child() const {
  return {.ids = {.trace_id = ids.trace_id, .span_id = RandomHex(kSpanDigits / 2)}};
}

std::optional<Trace> Trace::Parse(std::string_view text) {
  // version "-" trace-id "-" parent-id "-" flags; a later version may add to the end.
  constexpr size_t kTraceAt = 3, kSpanAt = kTraceAt + kTraceDigits + 1, kFlagsAt = kSpanAt + kSpanDigits + 1;
  constexpr size_t kSize = kFlagsAt + 2;
  if (text.size() < kSize || text[2] != '-' || text[kSpanAt - 1] != '-' || text[kFlagsAt - 1] != '-')
    return std::nullopt;
  const std::string_view version = text.substr(0, 2), flags = text.substr(kFlagsAt, 2);
  const bool hex =
      (std::string(version) + std::string(flags)).find_first_not_of("0123456789abcdef") == std::string::npos;
  const bool longer = text.size() > kSize;
  if (!hex || version == "ff" || (longer && (version == "00" || text[kSize] != '-'))) return std::nullopt;
  Trace trace{.ids = {.trace_id = std::string(text.substr(kTraceAt, kTraceDigits)),
                      .span_id = std::string(text.substr(kSpanAt, kSpanDigits))}};
  if (!IsId(trace.ids.trace_id) || !IsId(trace.ids.span_id)) return std::nullopt;
  return trace;
}

Trace Trace::New() {
  return {.ids = {.trace_id = RandomHex(kTraceDigits / 2), .span_id = RandomHex(kSpanDigits / 2)}};
}

Trace Trace::Continue(std::string_view traceparent) {
  const auto parent = Parse(traceparent);
  return parent.has_value() ? parent->Child() : New();
}

Trace Trace::Current() {
  return {.ids = ScopedLogTrace::Current()};
}

}  // namespace bdh::telemetry
