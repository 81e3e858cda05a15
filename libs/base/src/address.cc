#include "bdh/base/address.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"

namespace bdh {

std::string HostPort::ToString() const {
  const bool ipv6 = host.find(':') != std::string::npos;
  return ipv6 ? absl::StrFormat("[%s]:%d", host, port) : absl::StrFormat("%s:%d", host, port);
}

bool HostPort::IsLoopback() const {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

HostPort HostPort::ForClients() const {
  if (host == "0.0.0.0") return {"127.0.0.1", port};
  if (host == "::") return {"::1", port};
  return *this;
}

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const auto bad = [text](std::string_view why) {
    return absl::InvalidArgumentError(absl::StrFormat("'%s' is not host:port: %s", text, why));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad("the port is missing");
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (!bracketed && host.find(':') != std::string_view::npos) {
    return bad("an IPv6 address stands in brackets, as in [::1]:8000");
  }
  HostPort address{std::string(host), 0};
  if (host.empty()) return bad("the host is missing; 0.0.0.0 means every address of this machine");
  if (port.empty() || port.find_first_not_of("0123456789") != std::string_view::npos ||
      !absl::SimpleAtoi(absl::string_view(port.data(), port.size()), &address.port) || address.port > 65535) {
    return bad("want a port of 0 to 65535");
  }
  return address;
}

}  // namespace bdh
