#include "services/gateway/http_server.h"

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/address.h"
#include "bdh/base/cores.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "services/gateway/http_connection.h"

namespace bdh::gateway {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using boost::system::error_code;

// Connections above the limit that are told so; those above these are closed without a word.
constexpr int kMaxRefusals = 64;
// What the kernel may hold for a client that does not read: bounds memory, and makes it felt soon.
constexpr int kSendBufferBytes = 256 << 10;

absl::StatusOr<tcp::endpoint> Resolve(asio::io_context& context, const std::string& address) {
  BDH_ASSIGN_OR_RETURN(const HostPort at, ParseHostPort(address));
  error_code error;
  const auto found =
      tcp::resolver(context).resolve(at.host, std::to_string(at.port), tcp::resolver::passive, error);
  if (error)
    return absl::UnavailableError(absl::StrFormat("cannot listen on %s: %s", address, error.message()));
  return found.begin()->endpoint();
}

absl::Status Listen(const tcp::endpoint& endpoint, const std::string& address, tcp::acceptor& acceptor) {
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrFormat("cannot listen on %s: %s", address, error.message()));
}

void Tune(tcp::socket& socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);  // An event must not wait for the next.
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  socket.set_option(asio::socket_base::send_buffer_size(kSendBufferBytes), ignored);
}

}  // namespace

void ConnectionHost::CountConnection(int delta) {
  if (options.on_connection) options.on_connection(delta);
  MutexLock lock(mutex);
  connections += delta;
  if (connections == 0) idle.NotifyAll();
}

void ConnectionHost::CountRequest(int delta) {
  if (options.on_request) options.on_request(delta);
  MutexLock lock(mutex);
  requests += delta;
  if (requests == 0) idle.NotifyAll();
}

bool ConnectionHost::Await(absl::Duration timeout, const std::function<bool()>& condition) {
  const absl::Time until = absl::Now() + timeout;
  MutexLock lock(mutex);
  while (!condition()) {
    const absl::Duration left = until - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    idle.WaitFor(mutex, absl::ToChronoNanoseconds(left));
  }
  return true;
}

bool ConnectionHost::ReserveBody(int64_t bytes) {
  if (body_bytes.fetch_add(bytes) + bytes <= options.max_total_body_bytes) return true;
  body_bytes -= bytes;
  return false;
}

struct HttpServer::Impl {
  explicit Impl(Options options)
      : host(std::move(options)), acceptor(asio::make_strand(context)), retry(acceptor.get_executor()) {}

  void Accept() {
    acceptor.async_accept(asio::make_strand(context), [this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || !acceptor.is_open()) return;
      if (error) return AcceptLater(error);
      Adopt(std::move(socket));
      Accept();
    });
  }

  // Out of descriptors, most likely: trying again at once would only burn the processor.
  void AcceptLater(error_code error) {
    BDH_LOG(WARNING) << "cannot accept error=" << error.message();
    retry.expires_after(std::chrono::milliseconds(100));
    retry.async_wait([this](error_code stopped) {
      if (!stopped) Accept();
    });
  }

  // The kernel has accepted for us what still stands in the queue; closing would reset it without an answer.
  void AcceptTheRest() {
    error_code error;
    acceptor.non_blocking(true, error);
    while (!error) {
      tcp::socket socket(asio::make_strand(context));
      acceptor.accept(socket, error);
      if (!error) Adopt(std::move(socket));
    }
    error_code ignored;
    acceptor.close(ignored);
  }

  void Adopt(tcp::socket socket) {
    const bool refuse = host.connections >= host.options.max_connections;
    if (refuse && host.refused >= kMaxRefusals) return;
    Tune(socket);
    auto connection = Connection::Serve(std::move(socket), host, refuse);
    {
      MutexLock lock(mutex);
      std::erase_if(connections, [](const auto& weak) { return weak.expired(); });
      connections.push_back(connection);
    }
    if (host.closing) connection->Close();  // CloseAll may have looked a moment too early.
  }

  std::vector<std::shared_ptr<Connection>> Connections() {
    MutexLock lock(mutex);
    std::vector<std::shared_ptr<Connection>> alive;
    for (const auto& weak : connections) {
      if (auto connection = weak.lock()) alive.push_back(std::move(connection));
    }
    return alive;
  }

  ConnectionHost host;
  asio::io_context context;
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(context);
  tcp::acceptor acceptor;
  asio::steady_timer retry;
  std::string address;
  int port = 0;
  Mutex mutex;
  std::vector<std::weak_ptr<Connection>> connections ABSL_GUARDED_BY(mutex);
  std::vector<std::thread> threads;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(Options options) {
  BDH_CHECK(options.admit && options.make_error);
  auto impl = std::make_unique<Impl>(std::move(options));
  const Options& checked = impl->host.options;
  const auto endpoint = Resolve(impl->context, checked.address);
  if (!endpoint.ok()) return endpoint.status();
  if (checked.loopback_only && !endpoint->address().is_loopback()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s can be reached from other machines", checked.address));
  }
  if (auto status = Listen(*endpoint, checked.address, impl->acceptor); !status.ok()) return status;
  impl->port = impl->acceptor.local_endpoint().port();
  impl->address = absl::StrFormat("%s:%d", checked.address.substr(0, checked.address.rfind(':')), impl->port);
  impl->Accept();
  for (int i = 0; i < ThreadCount(checked.threads); ++i)
    impl->threads.emplace_back([raw = impl.get()] { raw->context.run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  StopAdmitting();
  CloseAll();
  impl_->work.reset();  // The threads leave once the last connection is closed.
  for (auto& thread : impl_->threads) thread.join();
}

const std::string& HttpServer::address() const {
  return impl_->address;
}
int HttpServer::port() const {
  return impl_->port;
}
bool HttpServer::draining() const {
  return impl_->host.draining;
}

void HttpServer::StopAdmitting() {
  impl_->host.draining = true;
  asio::post(impl_->acceptor.get_executor(), [impl = impl_.get()] {
    impl->AcceptTheRest();
    impl->retry.cancel();
  });
  for (const auto& connection : impl_->Connections()) connection->CloseIfIdle();
}

bool HttpServer::AwaitIdle(absl::Duration timeout) {
  return impl_->host.Await(timeout,
                           [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return impl_->host.requests == 0; });
}

bool HttpServer::AwaitClosed(absl::Duration timeout) {
  return impl_->host.Await(timeout, [this] { return impl_->host.connections == 0; });
}

void HttpServer::CloseAll() {
  impl_->host.closing = true;
  for (const auto& connection : impl_->Connections()) connection->Close();
}

}  // namespace bdh::gateway
