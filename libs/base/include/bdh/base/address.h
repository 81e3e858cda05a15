// "host:port" as configuration and command lines write it.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace bdh {

struct HostPort {
  std::string host;  // Without the brackets of "[::1]:80".
  int port = 0;

  std::string ToString() const;  // With them.
  // What this machine alone can reach: 127.0.0.0/8, ::1 and localhost.
  bool IsLoopback() const;
  // Where a client on this machine reaches who listens here: a wildcard becomes the loopback address.
  HostPort ForClients() const;
};

// InvalidArgumentError: no port, a port over 65535, an IPv6 address without brackets.
absl::StatusOr<HostPort> ParseHostPort(std::string_view text);

}  // namespace bdh
