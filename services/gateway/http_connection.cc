#include "services/gateway/http_connection.h"

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <chrono>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/text.h"

namespace bdh::gateway {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;
using boost::system::error_code;

constexpr size_t kReadBytes = 4096;
// What a client may send ahead while its request is answered; then its bytes wait in the kernel.
constexpr size_t kPipelineBytes = 16384;
// After an answer that ends the connection: what is still read so that the answer is not lost to a reset.
constexpr size_t kLingerBytes = 8 << 20;
constexpr auto kLingerTime = std::chrono::seconds(2);
constexpr int kClientGone = 499;  // As nginx logs it.

std::chrono::nanoseconds Chrono(absl::Duration duration) {
  return absl::ToChronoNanoseconds(duration);
}

std::string_view View(beast::string_view text) {
  return {text.data(), text.size()};
}

class ConnectionImpl;

class ExchangeImpl final : public Exchange, public std::enable_shared_from_this<ExchangeImpl> {
 public:
  ExchangeImpl(std::shared_ptr<ConnectionImpl> connection, Request request, asio::any_io_executor strand)
      : connection_(std::move(connection)), request_(std::move(request)), strand_(strand), timer_(strand) {}

  const Request& request() const override { return request_; }
  void Post(Callback work) override { asio::post(strand_, std::move(work)); }
  void After(absl::Duration delay, Callback work) override;
  void Send(Response response) override;
  void Begin(Response head) override;
  void Write(std::string_view bytes) override;
  void End() override;
  size_t pending_bytes() const override;
  void OnFlushed(Callback callback) override {
    if (connection_) on_flushed_ = std::move(callback);
  }
  void OnGone(Callback callback) override {
    if (connection_) on_gone_ = std::move(callback);
  }

  void Flushed() {
    if (const auto callback = on_flushed_) callback();  // A copy: it may end the exchange.
  }
  // Parts from the connection and lets go of what the handler gave. Returns its OnGone.
  Callback Detach() {
    connection_.reset();
    timer_.cancel();
    on_flushed_ = nullptr;
    return std::exchange(on_gone_, nullptr);
  }

 private:
  std::shared_ptr<ConnectionImpl> connection_;  // Null once the exchange is over.
  const Request request_;
  const asio::any_io_executor strand_;
  asio::steady_timer timer_;
  Callback on_flushed_, on_gone_;
};

class ConnectionImpl final : public Connection, public std::enable_shared_from_this<ConnectionImpl> {
 public:
  ConnectionImpl(tcp::socket socket, ConnectionHost& host, bool refuse)
      : host_(host), options_(host.options), refuse_(refuse), stream_(std::move(socket)) {
    refuse_ ? void(++host_.refused) : host_.CountConnection(+1);
  }
  ~ConnectionImpl() override {
    EndBody();
    refuse_ ? void(--host_.refused) : host_.CountConnection(-1);
  }

  void Start() {
    Post([self = shared_from_this()] { self->AwaitRequest(); });
  }
  void CloseIfIdle() override {
    Post([self = shared_from_this()] {
      // The first request of a connection may be on its way; it is answered, if only with 503.
      if (self->idle_ && !self->first_) self->Shut();
    });
  }
  void Close() override {
    Post([self = shared_from_this()] { self->Shut(); });
  }

  // For ExchangeImpl, on the strand.
  void SendWhole(const Response& response);
  void BeginBody(const Response& head);
  void WriteBody(std::string_view bytes);
  void EndAnswer();
  size_t pending_bytes() const { return outbox_.size() + inflight_.size(); }

 private:
  void Post(std::function<void()> work) { asio::post(stream_.get_executor(), std::move(work)); }

  // Reading, one request at a time.
  void AwaitRequest();
  void ReadHead();
  void OnHead(error_code error);
  void Admit();
  void ReadBody();
  void OnBody(error_code error);
  void OnBadInput(error_code error);
  bool ReserveBody();
  void EndBody();

  // Answering.
  void Open();
  void Refuse(Response response);
  void RefuseWith(int status, const std::string& message) { Refuse(options_.make_error(status, message)); }
  void QueueHead(const Response& head, Framing framing);
  void Queue(std::string_view bytes);
  void Flush();
  void OnWritten(error_code error, size_t bytes);
  void Finish();

  // While a request is answered: does the client go away, or send its next one?
  void Watch();
  void OnReadable();

  // Ends.
  void Shut();
  void Report(int status, bool client_gone);
  void Linger();
  void ReadAway();

  ConnectionHost& host_;
  const HttpServer::Options& options_;
  const bool refuse_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_{128 << 10};
  std::optional<http::request_parser<http::string_body>> parser_;

  Request request_;
  Admission admission_;
  std::shared_ptr<ExchangeImpl> exchange_;  // Set while a request is answered.
  int64_t reserved_ = 0;                    // Of the budget of bodies.
  int status_ = 0;                          // Of the answer whose head was queued; 0: none yet.
  Framing framing_ = Framing::kLength;
  bool first_ = true, idle_ = false, keep_alive_ = false, answer_ended_ = false, counted_ = false;
  bool watching_ = false, writing_ = false, closed_ = false;
  std::string outbox_, inflight_;
  uint64_t sent_bytes_ = 0;
  size_t lingered_ = 0;
  std::array<char, kReadBytes> waste_;
};

// ---- ExchangeImpl

void ExchangeImpl::After(absl::Duration delay, Callback work) {
  if (!connection_) return;
  timer_.expires_after(Chrono(delay));
  timer_.async_wait([self = shared_from_this(), work = std::move(work)](error_code stopped) {
    if (!stopped && self->connection_) work();
  });
}
void ExchangeImpl::Send(Response response) {
  if (const auto connection = connection_) connection->SendWhole(response);
}
void ExchangeImpl::Begin(Response head) {
  if (const auto connection = connection_) connection->BeginBody(head);
}
void ExchangeImpl::Write(std::string_view bytes) {
  if (const auto connection = connection_) connection->WriteBody(bytes);
}
void ExchangeImpl::End() {
  if (const auto connection = connection_) connection->EndAnswer();
}
size_t ExchangeImpl::pending_bytes() const {
  return connection_ ? connection_->pending_bytes() : 0;
}

// ---- Reading

void ConnectionImpl::AwaitRequest() {
  if (closed_) return;
  if (host_.closing || (host_.draining && !first_)) return Shut();
  parser_.emplace();
  parser_->header_limit(options_.max_header_bytes);
  parser_->body_limit(options_.max_body_bytes);
  if (buffer_.size() > 0) return ReadHead();  // Pipelined.
  idle_ = true;
  stream_.expires_after(Chrono(first_ ? options_.header_timeout : options_.idle_timeout));
  stream_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this()](error_code error, size_t bytes) {
                            self->idle_ = false;
                            if (error) return self->Shut();
                            self->buffer_.commit(bytes);
                            self->ReadHead();
                          });
}

void ConnectionImpl::ReadHead() {
  if (closed_) return;
  request_ = Request();
  request_.arrival = absl::Now();
  admission_ = Admission();
  stream_.expires_after(Chrono(options_.header_timeout));
  http::async_read_header(stream_, buffer_, *parser_,
                          [self = shared_from_this()](error_code error, size_t) { self->OnHead(error); });
}

void ConnectionImpl::OnHead(error_code error) {
  const auto& head = parser_->get();
  request_.method = View(head.method_string());
  request_.path = PathOfTarget(View(head.target()));
  for (const auto& field : head) {
    request_.headers.emplace_back(absl::AsciiStrToLower(std::string(View(field.name_string()))),
                                  View(field.value()));
  }
  request_.id = request_.Header("x-request-id");
  request_.trace = telemetry::Trace::Continue(request_.Header(telemetry::kTraceparent));
  if (!IsSaneRequestId(request_.id)) request_.id = "req_" + request_.trace.ids.trace_id;
  if (error) return OnBadInput(error);
  Admit();
}

// What goes wrong while a request is read. A client that stalls or leaves gets no answer.
void ConnectionImpl::OnBadInput(error_code error) {
  if (error == http::error::body_limit) {
    return RefuseWith(413,
                      absl::StrFormat("The request body is larger than %d bytes, the limit of this server "
                                      "(gateway.max_body_bytes).",
                                      options_.max_body_bytes));
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return RefuseWith(431, absl::StrFormat("The request line and headers are larger than %d bytes.",
                                           options_.max_header_bytes));
  }
  const bool left = error == http::error::end_of_stream || error == http::error::partial_message;
  static const error_code kHttpError = http::make_error_code(http::error::bad_method);
  if (left || error.category() != kHttpError.category()) return Shut();
  RefuseWith(400, absl::StrFormat("This is not a valid HTTP/1.1 request: %s.", error.message()));
}

void ConnectionImpl::Admit() {
  if (refuse_) {
    return RefuseWith(503, absl::StrFormat("The server has %d connections open, its limit "
                                           "(gateway.max_connections). Try again soon.",
                                           options_.max_connections));
  }
  const auto& head = parser_->get();
  if (head.version() == 11 && head.count(http::field::host) != 1) {
    return RefuseWith(400, "An HTTP/1.1 request needs exactly one Host header.");
  }
  admission_ = options_.admit(request_);
  if (host_.draining) return RefuseWith(503, "The server is shutting down. Try again soon.");
  if (admission_.refusal) return Refuse(*std::move(admission_.refusal));
  if (!ReserveBody()) {
    return RefuseWith(503,
                      "The server is reading as many request bodies as it has memory for. Try again soon.");
  }
  const std::string expect(request_.Header("expect"));
  if (expect.empty() || parser_->is_done()) return ReadBody();
  if (!absl::EqualsIgnoreCase(expect, "100-continue")) {
    return RefuseWith(417, "The only expectation this server meets is 100-continue.");
  }
  Queue("HTTP/1.1 100 Continue\r\n\r\n");
  ReadBody();
}

// A body without a length may become as long as the limit.
bool ConnectionImpl::ReserveBody() {
  const auto length = parser_->content_length();
  const int64_t bytes = parser_->is_done() ? 0
                        : length           ? static_cast<int64_t>(*length)
                                           : options_.max_body_bytes;
  if (!host_.ReserveBody(bytes)) return false;
  reserved_ = bytes;
  return true;
}

void ConnectionImpl::EndBody() {
  host_.ReleaseBody(std::exchange(reserved_, 0));
}

void ConnectionImpl::ReadBody() {
  if (closed_) return;
  if (parser_->is_done()) return OnBody({});
  stream_.expires_after(Chrono(options_.body_timeout));
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](error_code error, size_t) { self->OnBody(error); });
}

void ConnectionImpl::OnBody(error_code error) {
  if (closed_) return;
  if (error) return OnBadInput(error);
  request_.body = std::move(parser_->get().body());
  keep_alive_ = parser_->get().keep_alive();
  const auto body_bytes = static_cast<int64_t>(request_.body.size());
  host_.ReleaseBody(std::exchange(reserved_, body_bytes) - body_bytes);
  Open();
  counted_ = true;
  host_.CountRequest(+1);
  const auto exchange = exchange_;
  {
    const telemetry::ScopedTrace trace(request_.trace);
    admission_.handler(exchange);
  }
  if (exchange_ == exchange) Watch();
}

// ---- Answering

void ConnectionImpl::Open() {
  status_ = 0;
  sent_bytes_ = 0;
  answer_ended_ = false;
  std::string body = std::exchange(request_.body, std::string());
  Request given = request_;
  given.body = std::move(body);
  exchange_ = std::make_shared<ExchangeImpl>(shared_from_this(), std::move(given), stream_.get_executor());
}

// Answers without a handler, and closes unless all of the request has been read.
void ConnectionImpl::Refuse(Response response) {
  if (closed_) return;
  keep_alive_ = response.status != 400 && parser_->is_done() && parser_->get().keep_alive() && !refuse_;
  Open();
  SendWhole(response);
}

void ConnectionImpl::SendWhole(const Response& response) {
  if (status_ != 0) return;
  QueueHead(response, Framing::kLength);
  if (request_.method != "HEAD" && response.status != 204) Queue(response.body);
  EndAnswer();
}

// HTTP/1.0 knows no chunks: there the end of the connection is the end of the body.
void ConnectionImpl::BeginBody(const Response& head) {
  if (status_ != 0) return;
  const bool chunks = parser_->get().version() >= 11;
  if (!chunks) keep_alive_ = false;
  QueueHead(head, chunks ? Framing::kChunked : Framing::kUntilClose);
}

void ConnectionImpl::QueueHead(const Response& head, Framing framing) {
  status_ = head.status;
  framing_ = framing;
  if (host_.draining) keep_alive_ = false;
  HeaderList extra = {{"x-request-id", request_.id},
                      {telemetry::kTraceparent, request_.trace.ToString()},
                      {"openai-processing-ms",
                       absl::StrFormat("%d", absl::ToInt64Milliseconds(absl::Now() - request_.arrival))}};
  extra.insert(extra.end(), options_.extra_headers.begin(), options_.extra_headers.end());
  Queue(FormatHead(head, framing_, keep_alive_, extra));
}

void ConnectionImpl::WriteBody(std::string_view bytes) {
  if (answer_ended_ || status_ == 0) return;
  Queue(framing_ == Framing::kChunked ? FormatChunk(bytes) : std::string(bytes));
}

void ConnectionImpl::EndAnswer() {
  if (answer_ended_) return;
  if (framing_ == Framing::kChunked) Queue("0\r\n\r\n");
  answer_ended_ = true;
  if (!writing_) Finish();
}

void ConnectionImpl::Queue(std::string_view bytes) {
  outbox_.append(bytes);
  if (!writing_) Flush();
}

// Everything queued while a write was under way goes out in the next one.
void ConnectionImpl::Flush() {
  if (closed_ || outbox_.empty()) return;
  writing_ = true;
  std::swap(inflight_, outbox_);
  stream_.expires_after(Chrono(options_.write_timeout));
  asio::async_write(
      stream_, asio::buffer(inflight_),
      [self = shared_from_this()](error_code error, size_t bytes) { self->OnWritten(error, bytes); });
}

void ConnectionImpl::OnWritten(error_code error, size_t bytes) {
  writing_ = false;
  inflight_.clear();
  sent_bytes_ += bytes;
  if (error) return Shut();
  if (!outbox_.empty()) return Flush();
  if (!exchange_) return;
  if (answer_ended_) return Finish();
  const auto exchange = exchange_;
  exchange->Flushed();
}

void ConnectionImpl::Finish() {
  Report(status_, false);
  if (!keep_alive_) return Linger();
  first_ = false;
  AwaitRequest();
}

// ---- Watching

void ConnectionImpl::Watch() {
  if (watching_ || closed_ || buffer_.size() >= kPipelineBytes) return;
  watching_ = true;
  stream_.socket().async_wait(tcp::socket::wait_read, [self = shared_from_this()](error_code error) {
    self->watching_ = false;
    if (!error && self->exchange_) self->OnReadable();  // Between requests the reader sees for itself.
  });
}

void ConnectionImpl::OnReadable() {
  const auto space = buffer_.prepare(kReadBytes);
  const ssize_t got = recv(stream_.socket().native_handle(), space.data(), space.size(), MSG_DONTWAIT);
  if (got > 0) buffer_.commit(static_cast<size_t>(got));
  const bool alive = got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
  if (alive) return Watch();
  Shut();
}

// ---- Ends

void ConnectionImpl::Shut() {
  if (closed_) return;
  closed_ = true;
  stream_.close();
  if (exchange_) Report(status_ == 0 ? kClientGone : status_, true);
}

void ConnectionImpl::Report(int status, bool client_gone) {
  const auto exchange = std::exchange(exchange_, nullptr);
  const auto on_gone = exchange->Detach();
  EndBody();
  if (options_.on_access) {
    const telemetry::ScopedTrace trace(request_.trace);
    options_.on_access({.method = request_.method,
                        .path = request_.path,
                        .route = admission_.route,
                        .id = request_.id,
                        .status = status,
                        .client_gone = client_gone,
                        .sent_bytes = sent_bytes_,
                        .took = absl::Now() - request_.arrival});
  }
  if (client_gone && on_gone) on_gone();
  if (std::exchange(counted_, false)) host_.CountRequest(-1);
}

// Closing with unread input sends a reset, which may overtake the answer: so say that we are done,
// and read what comes for a while.
void ConnectionImpl::Linger() {
  error_code ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  stream_.expires_after(kLingerTime);
  ReadAway();
}

void ConnectionImpl::ReadAway() {
  stream_.async_read_some(asio::buffer(waste_), [self = shared_from_this()](error_code error, size_t bytes) {
    self->lingered_ += bytes;
    if (error || self->lingered_ > kLingerBytes) return self->Shut();
    self->ReadAway();
  });
}

}  // namespace

std::shared_ptr<Connection> Connection::Serve(tcp::socket socket, ConnectionHost& host, bool refuse) {
  auto connection = std::make_shared<ConnectionImpl>(std::move(socket), host, refuse);
  connection->Start();
  return connection;
}

}  // namespace bdh::gateway
