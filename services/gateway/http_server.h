// An HTTP/1.1 server: connections, their limits and timeouts, keep-alive, pipelining, drain. It knows no API.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/gateway/http_exchange.h"

namespace bdh::gateway {

// One answered (or abandoned) request, for logs and metrics.
struct AccessRecord {
  std::string method, path, route, id;
  int status = 0;  // 499: the client went away before the head of an answer was sent.
  bool client_gone = false;
  uint64_t sent_bytes = 0;
  absl::Duration took;
};

class HttpServer {
 public:
  struct Options {
    std::string address = "127.0.0.1:0";
    bool loopback_only = true;         // Refuse to listen on an address that other machines can reach.
    int threads = 0;                   // 0: one a core.
    int max_connections = 1024;        // One more is answered 503 and closed.
    int64_t max_body_bytes = 4 << 20;  // More: 413.
    int64_t max_total_body_bytes = 256 << 20;           // Of all requests at once. More: 503.
    int max_header_bytes = 16384;                       // Request line and headers. More: 431.
    absl::Duration header_timeout = absl::Seconds(20);  // First byte of a request to the end of its headers.
    absl::Duration body_timeout = absl::Seconds(60);
    absl::Duration idle_timeout = absl::Seconds(90);    // Longer than the pools of usual clients and proxies.
    absl::Duration write_timeout = absl::Seconds(120);  // A client that takes nothing for so long is dropped.
    HeaderList extra_headers = {};                      // On every answer.

    // Decides from method, path and headers. Called on any server thread.
    std::function<Admission(const Request& head)> admit;
    // The body of the server's own errors.
    std::function<Response(int status, const std::string& message)> make_error;
    std::function<void(const AccessRecord&)> on_access = nullptr;
    std::function<void(int delta)> on_connection = nullptr;  // +1 or -1.
    std::function<void(int delta)> on_request = nullptr;     // +1 when a handler gets one, -1 at its end.
  };

  // UnavailableError: cannot listen there. InvalidArgumentError: not host:port, or not loopback.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(Options options);
  ~HttpServer();

  // "127.0.0.1:8000", with the real port.
  const std::string& address() const;
  int port() const;

  bool draining() const;
  // Stops accepting, closes idle connections, answers new requests 503. Any thread.
  void StopAdmitting();
  // Waits until no request is open; false when `timeout` is over.
  bool AwaitIdle(absl::Duration timeout);
  // The same for connections: after StopAdmitting those are left that have just come, to be answered.
  bool AwaitClosed(absl::Duration timeout);
  // Closes all connections; handlers hear OnGone.
  void CloseAll();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace bdh::gateway
