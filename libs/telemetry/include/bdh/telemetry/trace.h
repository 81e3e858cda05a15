// W3C trace context: the id of one request, on its way through HTTP, gRPC and logs.
// https://www.w3.org/TR/trace-context/
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "bdh/base/log.h"

namespace bdh::telemetry {

// One step of a request. Its ids are what log lines carry.
struct Trace {
  LogTrace ids = {};

  // "00-<trace id>-<span id>-01"
  std::string ToString() const;
  // Another step of the same request.
  Trace Child() const;

  // Nothing when `traceparent` is not of that form: then a request begins a trace of its own.
  static std::optional<Trace> Parse(std::string_view traceparent);
  static Trace New();
  // The step that follows `traceparent`, or the first one of a new trace.
  static Trace Continue(std::string_view traceparent);
  // Of this thread; without ids when it works for no request.
  static Trace Current();

  bool empty() const { return ids.trace_id.empty(); }
};

// This thread works for `trace` until the end of the scope: its log lines and calls say so.
class ScopedTrace {
 public:
  explicit ScopedTrace(const Trace& trace) : ids_(trace.ids) {}

 private:
  const ScopedLogTrace ids_;
};

inline constexpr char kTraceparent[] = "traceparent";

}  // namespace bdh::telemetry
