#include "services/gateway/http_message.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace bdh::gateway {
namespace {

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Answer";
  }
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = absl::ascii_tolower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

void AppendHeader(std::string_view name, std::string_view value, std::string& out) {
  absl::StrAppendFormat(&out, "%s: %s\r\n", name, value);
}

}  // namespace

std::string_view Request::Header(std::string_view lower_name) const {
  const auto found = std::find_if(headers.begin(), headers.end(),
                                  [&](const auto& header) { return header.first == lower_name; });
  return found == headers.end() ? std::string_view() : found->second;
}

std::string FormatHead(const Response& response, Framing framing, bool keep_alive, const HeaderList& extra) {
  std::string head = absl::StrFormat("HTTP/1.1 %d %s\r\n", response.status, ReasonPhrase(response.status));
  AppendHeader("Date", absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()), head);
  if (response.status != 204) {  // 204 has neither body nor length.
    AppendHeader("Content-Type", response.content_type, head);
    if (framing == Framing::kLength)
      AppendHeader("Content-Length", absl::StrFormat("%d", response.body.size()), head);
    if (framing == Framing::kChunked) AppendHeader("Transfer-Encoding", "chunked", head);
  }
  AppendHeader("Connection", keep_alive ? "keep-alive" : "close", head);
  for (const auto& [name, value] : response.headers) AppendHeader(name, value, head);
  for (const auto& [name, value] : extra) AppendHeader(name, value, head);
  return head + "\r\n";
}

std::string FormatChunk(std::string_view text) {
  return text.empty() ? "" : absl::StrFormat("%x\r\n%s\r\n", text.size(), text);
}

std::string PathOfTarget(std::string_view target) {
  if (!target.empty() && target.front() != '/') {  // Absolute form, as proxies send it.
    if (const size_t scheme = target.find("://"); scheme != target.npos) {
      const size_t slash = target.find_first_of("/?", scheme + 3);
      target = slash == target.npos ? "/" : target.substr(slash);
    }
  }
  return std::string(target.substr(0, target.find_first_of("?#")));
}

std::string PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = high >= 0 ? HexDigit(text[i + 2]) : -1;
    decoded += low >= 0 ? static_cast<char>(high * 16 + low) : text[i];
    if (low >= 0) i += 2;
  }
  return decoded;
}

bool IsSaneRequestId(std::string_view id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

}  // namespace bdh::gateway
