// HTTP requests as the hub needs them: no redirect is followed by itself, so that a token goes nowhere
// unseen.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace bdh::hub {

// "https://host:8443" of a URL, lower case, with the port it means. Empty: not http or https, or with a user
// in it.
std::string OriginOf(std::string_view url);

// What `location` means where `base` answered it. Empty: it is no URL.
std::string ResolveUrl(std::string_view base, std::string_view location);

// Each byte but letters, digits and -._~ as %XX; with `keep_slashes` those too.
std::string PercentEncode(std::string_view text, bool keep_slashes);

struct HttpRequest {
  std::string url;
  std::string token;       // Sent as a bearer.
  int64_t range_from = 0;  // Above 0: asks for the bytes from there on.
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // Names in lower case.
  std::optional<absl::Duration> retry_after;

  std::string Header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
};

// One connection, kept open. One thread at a time.
class HttpClient {
 public:
  struct Options {
    absl::Duration stall;
    const std::atomic<bool>* cancelled = nullptr;
  };
  explicit HttpClient(const Options& options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // `begin` sees the response before its body; `body` gets that in pieces. An error of theirs ends the
  // request and is returned. UnavailableError: cannot connect, cut off, or no byte for `stall`;
  // CancelledError. A redirect is a response like any other.
  absl::StatusOr<HttpResponse> Get(const HttpRequest& request,
                                   const std::function<absl::Status(const HttpResponse&)>& begin,
                                   const std::function<absl::Status(std::string_view)>& body);

 private:
  struct Transfer;
  const Options options_;
  void* const curl_;
};

}  // namespace bdh::hub
