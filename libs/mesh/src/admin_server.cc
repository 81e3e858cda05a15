#include "admin_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <optional>
#include <thread>

#include "absl/strings/str_format.h"
#include "bdh/base/address.h"
#include "bdh/base/status_macros.h"

namespace bdh::mesh {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;

constexpr auto kTimeout = std::chrono::seconds(5);
constexpr auto kAcceptPause = std::chrono::milliseconds(100);
constexpr int kMaxConnections = 64;
constexpr size_t kMaxRequestBytes = 8192;

struct State {
  const telemetry::Metrics& metrics;
  std::atomic<bool> ready{false};
  std::atomic<int> connections{0};
};

http::response<http::string_body> Answer(const State& state, const http::request_header<>& request) {
  http::response<http::string_body> response;
  response.version(request.version());
  response.set(http::field::content_type, "text/plain; charset=utf-8");
  response.keep_alive(false);
  const std::string_view target(request.target().data(), request.target().size());
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    response.result(http::status::method_not_allowed);
    response.set(http::field::allow, "GET, HEAD");
    response.body() = "only GET and HEAD are served here\n";
  } else if (target == "/metrics") {
    response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
    response.body() = state.metrics.Serialize();
  } else if (target == "/healthz") {
    response.body() = "ok\n";
  } else if (target == "/readyz") {
    if (!state.ready) response.result(http::status::service_unavailable);
    response.body() = state.ready ? "ready\n" : "not ready\n";
  } else {
    response.result(http::status::not_found);
    response.body() = "there are /metrics, /healthz and /readyz\n";
  }
  response.prepare_payload();
  if (request.method() == http::verb::head) response.body().clear();
  return response;
}

// One request, one answer, closed.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, State& state) : stream_(std::move(socket)), state_(state) {
    ++state_.connections;
  }
  ~Session() { --state_.connections; }

  void Run() {
    parser_.header_limit(kMaxRequestBytes);
    stream_.expires_after(kTimeout);
    http::async_read_header(stream_, buffer_, parser_,
                            [self = shared_from_this()](beast::error_code error, size_t) {
                              if (!error) self->Reply();
                            });
  }

 private:
  void Reply() {
    response_ = Answer(state_, parser_.get());
    http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code, size_t) {
      beast::error_code ignored;
      self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    });
  }

  beast::tcp_stream stream_;
  State& state_;
  beast::flat_buffer buffer_{kMaxRequestBytes};
  http::request_parser<http::empty_body> parser_;
  http::response<http::string_body> response_;
};

}  // namespace

struct AdminServer::Impl {
  explicit Impl(const telemetry::Metrics& metrics) : state{metrics}, acceptor(context) {}

  void Accept() {
    acceptor.async_accept([this](beast::error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) return AcceptLater();
      // Over the limit the socket closes here: a probe tries again, a flood gets nothing.
      if (state.connections < kMaxConnections) std::make_shared<Session>(std::move(socket), state)->Run();
      Accept();
    });
  }

  // Out of descriptors, most likely: asking again at once would burn a core until somebody closes one.
  void AcceptLater() {
    pause.expires_after(kAcceptPause);
    pause.async_wait([this](beast::error_code error) {
      if (!error) Accept();
    });
  }

  State state;
  asio::io_context context{1};
  tcp::acceptor acceptor;
  asio::steady_timer pause{context};
  std::string address;
  std::thread thread;
};

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const std::string& address,
                                                                const telemetry::Metrics& metrics) {
  BDH_ASSIGN_OR_RETURN(HostPort listen, ParseHostPort(address));
  auto impl = std::make_unique<Impl>(metrics);
  beast::error_code error;
  tcp::resolver resolver(impl->context);
  const auto found =
      resolver.resolve(listen.host, absl::StrFormat("%d", listen.port), tcp::resolver::passive, error);
  if (!error) impl->acceptor.open(found.begin()->endpoint().protocol(), error);
  if (!error) impl->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) impl->acceptor.bind(found.begin()->endpoint(), error);
  if (!error) impl->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrFormat("cannot listen on admin address %s: %s", address, error.message()));
  }
  listen.port = impl->acceptor.local_endpoint().port();
  impl->address = listen.ToString();
  impl->Accept();
  impl->thread = std::thread([&context = impl->context] { context.run(); });
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
}

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AdminServer::~AdminServer() {
  impl_->context.stop();
  impl_->thread.join();
}

const std::string& AdminServer::address() const {
  return impl_->address;
}
void AdminServer::SetReady(bool ready) {
  impl_->state.ready = ready;
}

}  // namespace bdh::mesh
