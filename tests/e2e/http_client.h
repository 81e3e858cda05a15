// An HTTP client of a hundred lines over a bare socket, so that what the gateway sends is judged by other
// code than the one that wrote it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace bdh::e2e {

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // Names in lower case.
  std::string body;                            // Chunks put together.
};

// `url` is http://host:port/path. Reads until the server closes.
absl::StatusOr<HttpResponse> Get(const std::string& url);
absl::StatusOr<HttpResponse> Post(const std::string& url, const std::string& body);

// What stands behind "data: " in an event stream.
std::vector<std::string> Events(const std::string& body);

}  // namespace bdh::e2e
