#include "services/bdhctl/ports.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::bdhctl {
namespace {

constexpr int kTries = 200;

// Binds and listens for a moment. Returns the port that was bound.
absl::StatusOr<int> TryListen(const HostPort& address) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  if (const int error = getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("cannot listen on %s: %s", address.ToString(), gai_strerror(error)));
  }
  const absl::Cleanup freer = [&] { freeaddrinfo(found); };
  const int descriptor = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return ErrnoStatus(errno, "make a socket");
  const absl::Cleanup closer = [&] { close(descriptor); };
  // As the daemons do it: connections of an earlier daemon that linger do not count as taken.
  const int yes = 1;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  if (bind(descriptor, found->ai_addr, found->ai_addrlen) != 0 || listen(descriptor, 1) != 0) {
    const int error = errno;
    if (error == EADDRINUSE)
      return absl::AlreadyExistsError(absl::StrFormat("%s is taken", address.ToString()));
    return ErrnoStatus(error, absl::StrFormat("cannot listen on %s", address.ToString()));
  }
  sockaddr_storage bound{};
  socklen_t length = sizeof(bound);
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&bound), &length) != 0)
    return ErrnoStatus(errno, "getsockname");
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<sockaddr_in&>(bound).sin_port);
}

bool AnotherPortMayDo(const absl::Status& status) {
  return absl::IsAlreadyExists(status) || absl::IsPermissionDenied(status);
}

}  // namespace

absl::Status CanListen(const HostPort& address) {
  return TryListen(address).status();
}

std::string WhyNot(const HostPort& address) {
  const absl::Status status = CanListen(address);
  // Free again by now, or handed out to another daemon of ours.
  return status.ok() ? address.ToString() + " was taken" : std::string(status.message());
}

absl::StatusOr<HostPort> PortChooser::Choose(const HostPort& wanted, int stride) {
  for (int i = 0; i < kTries; ++i) {
    const int port = wanted.port == 0 ? 0 : wanted.port + i * stride;
    if (port > 65535) break;
    if (given_.contains(port)) continue;
    const auto bound = TryListen({wanted.host, port});
    if (bound.ok() && given_.insert(*bound).second) return HostPort{wanted.host, *bound};
    if (!bound.ok() && !AnotherPortMayDo(bound.status())) return bound.status();
  }
  return absl::ResourceExhaustedError(
      absl::StrFormat("no free port from %s on in steps of %d", wanted.ToString(), stride));
}

}  // namespace bdh::bdhctl
