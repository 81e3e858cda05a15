// HTTP requests and answers as values: what the handlers see of a connection.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "bdh/telemetry/trace.h"

namespace bdh::gateway {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

struct Request {
  std::string method;  // As sent: "GET".
  std::string path;    // Of the target, without the query: "/v1/models".
  HeaderList headers;  // Names in lower case.
  std::string body;
  std::string id;          // For x-request-id: the client's, if sane, or ours, which holds the trace id.
  telemetry::Trace trace;  // The client's, if it sent a traceparent, or a new one.
  absl::Time arrival;      // When its first byte was there.

  // The first header of that name, or "". `lower_name` is in lower case.
  std::string_view Header(std::string_view lower_name) const;
};

struct Response {
  int status = 200;
  std::string body = "";
  std::string content_type = "application/json";
  HeaderList headers = {};
};

// How the body's end is told.
enum class Framing { kLength, kChunked, kUntilClose };

// Status line and headers up to the empty line. `extra` come after the response's own.
std::string FormatHead(const Response& response, Framing framing, bool keep_alive, const HeaderList& extra);

// One chunk of a chunked body. Empty text gives "": an empty chunk would end the body.
std::string FormatChunk(std::string_view text);

// "/v1/models" of "/v1/models?limit=2" and of "http://host/v1/models?limit=2".
std::string PathOfTarget(std::string_view target);

// "%2F" becomes "/". What is not a valid escape stays as it is.
std::string PercentDecode(std::string_view text);

// Whether a client's id may be repeated in headers and logs: 1 to 128 of [A-Za-z0-9._-].
bool IsSaneRequestId(std::string_view id);

}  // namespace bdh::gateway
