#include "services/gateway/router.h"

#include <openssl/crypto.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bdh/base/text.h"
#include "services/gateway/openai_error.h"

namespace bdh::gateway {
namespace {

bool Matches(const std::string& pattern, const std::string& path) {
  if (pattern.back() != '*') return pattern == path;
  const std::string_view prefix(pattern.data(), pattern.size() - 1);
  return path.size() > prefix.size() && std::string_view(path).starts_with(prefix);
}

bool IsJson(std::string_view content_type) {
  std::string type = absl::AsciiStrToLower(std::string(content_type.substr(0, content_type.find(';'))));
  absl::StripAsciiWhitespace(&type);
  return type == "application/json" || type.ends_with("+json");
}

// "[::1]:8000" -> "::1"; "localhost:8000" -> "localhost".
std::string HostWithoutPort(std::string_view host) {
  if (host.starts_with('[')) return std::string(host.substr(1, host.find(']') - 1));
  return absl::AsciiStrToLower(std::string(host.substr(0, host.find(':'))));
}

// No browser can be made to send a number or localhost for a page of another site.
bool IsLocalName(const std::string& host) {
  const bool number = !host.empty() && host.find_first_not_of("0123456789abcdef.:") == host.npos &&
                      (host.find(':') != host.npos || host.find_first_not_of("0123456789.") == host.npos);
  return number || host == "localhost" || host.ends_with(".localhost");
}

std::string BearerKey(const Request& request) {
  const std::string_view value = request.Header("authorization");
  constexpr size_t kScheme = 7;  // "Bearer "
  if (value.size() < kScheme || absl::AsciiStrToLower(std::string(value.substr(0, kScheme))) != "bearer ")
    return "";
  std::string key(value.substr(kScheme));
  absl::StripAsciiWhitespace(&key);
  return key;
}

// Enough for its owner to know which key it was.
std::string Masked(const std::string& key) {
  if (key.size() < 12) return "***";
  return absl::StrFormat("%s***%s", key.substr(0, 3), key.substr(key.size() - 4));
}

Response Unauthorized(const std::string& message) {
  return ErrorResponse({.status = 401,
                        .message = message,
                        .code = "invalid_api_key",
                        .headers = {{"WWW-Authenticate", "Bearer"}}});
}

Admission Refused(std::string route, const ApiError& error) {
  return {.route = std::move(route), .refusal = ErrorResponse(error)};
}

}  // namespace

Router::Router(Options options) : options_(std::move(options)) {
  for (const auto& key : options_.api_keys) key_digests_.push_back(Sha256Hex(key));
}

void Router::Add(std::string method, std::string path, Handler handler) {
  routes_.push_back({std::move(method), std::move(path), std::move(handler)});
}

Admission Router::Admit(const Request& head) const {
  if (head.method == "OPTIONS" && !options_.cors_allow_origin.empty()) return Preflight(head);
  const std::string method = head.method == "HEAD" ? "GET" : head.method;
  std::vector<std::string> allowed;
  for (const Route& route : routes_) {
    if (!Matches(route.path, head.path)) continue;
    if (route.method == method)
      return {.route = route.path, .refusal = Refuse(head), .handler = route.handler};
    allowed.push_back(route.method);
  }
  if (allowed.empty()) {
    return Refused("other",
                   {.status = 404,
                    .message = absl::StrFormat("Invalid URL (%s %s). GET / lists what is served here.",
                                               head.method, head.path)});
  }
  const std::string methods = absl::StrJoin(allowed, ", ");
  return Refused("other", {.status = 405,
                           .message = absl::StrFormat("Not allowed to %s on %s (HINT: this path takes %s).",
                                                      head.method, head.path, methods),
                           .headers = {{"Allow", methods}}});
}

std::optional<Response> Router::Refuse(const Request& head) const {
  if (options_.api_keys.empty() && !options_.any_host) {
    const std::string host = HostWithoutPort(head.Header("host"));
    if (!host.empty() && !IsLocalName(host)) {
      return ErrorResponse(
          {.status = 403,
           .message = absl::StrFormat(
               "The gateway has no API keys, so it answers to localhost and numeric addresses only, "
               "not to `%s`. Set gateway.api_keys, or gateway.insecure if a proxy guards it.",
               host)});
    }
  }
  if (std::string_view(head.path).starts_with("/v1/")) {
    if (auto refusal = CheckKey(head)) return refusal;
  }
  const std::string_view type = head.Header("content-type");
  // A page of another site can post forms and plain text here, but not JSON.
  if (head.method == "POST" && !type.empty() && !IsJson(type)) {
    return ErrorResponse(
        {.status = 415,
         .message = absl::StrFormat("Unsupported content type: '%s'. Send JSON with the header "
                                    "'Content-Type: application/json' (curl: -H 'Content-Type: "
                                    "application/json').",
                                    type),
         .code = "unsupported_content_type"});
  }
  return std::nullopt;
}

std::optional<Response> Router::CheckKey(const Request& head) const {
  if (options_.api_keys.empty()) return std::nullopt;
  const std::string key = BearerKey(head);
  if (key.empty()) {
    return Unauthorized(
        "You didn't provide an API key. Send it in the header 'Authorization: Bearer YOUR_KEY'; the keys are "
        "those "
        "of gateway.api_keys.");
  }
  const std::string digest = Sha256Hex(key);
  int matches = 0;  // All are compared, each in constant time.
  for (const auto& known : key_digests_)
    matches += CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0;
  if (matches > 0) return std::nullopt;
  return Unauthorized(absl::StrFormat(
      "Incorrect API key provided: %s. The keys are those of gateway.api_keys.", Masked(key)));
}

// A browser asks before it sends JSON or a key from a page of another origin.
Admission Router::Preflight(const Request& head) const {
  Response response{.status = 204};
  response.headers = {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                      {"Access-Control-Max-Age", "600"}};
  const std::string_view asked = head.Header("access-control-request-headers");
  const bool sane = asked.size() <= 1024 && std::all_of(asked.begin(), asked.end(), [](char c) {
                      return absl::ascii_isalnum(c) || c == '-' || c == ',' || c == ' ' || c == '_';
                    });
  response.headers.emplace_back("Access-Control-Allow-Headers",
                                sane && !asked.empty() ? std::string(asked) : "authorization, content-type");
  return {.route = "preflight", .refusal = std::move(response)};
}

std::string Router::Tenant(const Request& request) const {
  if (options_.api_keys.empty()) return "anonymous";
  return "key-" + Sha256Hex(BearerKey(request)).substr(0, 12);
}

HeaderList Router::CommonHeaders() const {
  if (options_.cors_allow_origin.empty()) return {};
  HeaderList headers = {{"Access-Control-Allow-Origin", options_.cors_allow_origin},
                        {"Access-Control-Expose-Headers",
                         "x-request-id, traceparent, openai-processing-ms, retry-after, retry-after-ms"}};
  if (options_.cors_allow_origin != "*") headers.emplace_back("Vary", "Origin");
  return headers;
}

}  // namespace bdh::gateway
