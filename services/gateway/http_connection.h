// One client connection of HttpServer. Internal to the server.
#pragma once

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <memory>

#include "bdh/base/mutex.h"
#include "services/gateway/http_server.h"

namespace bdh::gateway {

// What all connections share. Outlives them.
struct ConnectionHost {
  explicit ConnectionHost(HttpServer::Options given) : options(std::move(given)) {}

  void CountConnection(int delta);
  void CountRequest(int delta);
  // Waits for a `condition` of the counts; false when `timeout` is over.
  bool Await(absl::Duration timeout, const std::function<bool()>& condition);
  // Takes `bytes` from the budget of all bodies; false when it is used up.
  bool ReserveBody(int64_t bytes);
  void ReleaseBody(int64_t bytes) { body_bytes -= bytes; }

  const HttpServer::Options options;
  std::atomic<bool> draining{false};  // Open requests may end, new ones are refused.
  std::atomic<bool> closing{false};   // All connections close.
  std::atomic<int> connections{0};
  std::atomic<int> refused{0};  // Connections that are only there to be told that there are too many.
  std::atomic<int64_t> body_bytes{0};
  Mutex mutex;
  CondVar idle;  // No request, or no connection, is left.
  int requests ABSL_GUARDED_BY(mutex) = 0;
};

// Any thread.
class Connection {
 public:
  // Serves `socket`, whose executor is a strand, until either side closes; keeps itself alive. With `refuse`
  // its first request is answered 503.
  static std::shared_ptr<Connection> Serve(boost::asio::ip::tcp::socket socket, ConnectionHost& host,
                                           bool refuse);
  virtual ~Connection() = default;
  virtual void CloseIfIdle() = 0;
  virtual void Close() = 0;
};

}  // namespace bdh::gateway
