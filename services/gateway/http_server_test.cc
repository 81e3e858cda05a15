// Proves that the HTTP server survives what clients send and do: raw sockets against a server with a tiny
// API.
#include "services/gateway/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/mutex.h"
#include "bdh/testing/status_matchers.h"
#include "services/gateway/http_test_client.h"

namespace bdh::gateway {
namespace {

using ::testing::HasSubstr;

class HttpServerTest : public ::testing::Test {
 protected:
  // Small limits, so that tests need not send much. POST /echo answers its body, GET /held waits for Release,
  // GET /flood streams until the client is gone.
  HttpServer::Options Defaults() {
    HttpServer::Options options;
    options.threads = 2;
    options.max_body_bytes = 1000;
    options.max_header_bytes = 2000;
    options.admit = [this](const Request& head) { return Admit(head); };
    options.make_error = [](int status, const std::string& message) {
      return Response{.status = status, .body = message};
    };
    options.on_access = [this](const AccessRecord& record) {
      MutexLock lock(mutex_);
      records_.push_back(record);
      changed_.NotifyAll();
    };
    return options;
  }

  void Start(HttpServer::Options options) {
    auto server = HttpServer::Start(std::move(options));
    BDH_ASSERT_OK(server.status());
    server_ = *std::move(server);
  }

  void SetUp() override { Start(Defaults()); }

  int port() const { return server_->port(); }

  void Release() {
    MutexLock lock(mutex_);
    for (const auto& exchange : held_) {
      exchange->Post([exchange] { exchange->Send({.body = "released"}); });
    }
    held_.clear();
  }

  // Waits until `count` requests are held.
  void AwaitHeld(size_t count) {
    MutexLock lock(mutex_);
    while (held_.size() < count) changed_.Wait(mutex_);
  }

  // The record of the request that came with this id.
  AccessRecord AwaitRecord(const std::string& id) {
    MutexLock lock(mutex_);
    for (;;) {
      for (const AccessRecord& record : records_) {
        if (record.id == id) return record;
      }
      changed_.Wait(mutex_);
    }
  }

  std::atomic<int> gone_{0};
  std::atomic<int64_t> flooded_bytes_{0};

 private:
  Admission Admit(const Request& head) {
    if (head.path == "/echo") {
      return {.route = "/echo", .handler = [](const std::shared_ptr<Exchange>& exchange) {
                exchange->Send({.body = exchange->request().body});
              }};
    }
    if (head.path == "/held") return {.route = "/held", .handler = [this](auto exchange) { Hold(exchange); }};
    if (head.path == "/flood")
      return {.route = "/flood", .handler = [this](auto exchange) { Flood(exchange); }};
    if (head.path == "/three") {
      return {.route = "/three", .handler = [](const std::shared_ptr<Exchange>& exchange) {
                exchange->Begin({.content_type = "text/plain"});
                for (const char* word : {"one ", "two ", "", "three"}) exchange->Write(word);
                exchange->End();
                exchange->Write("never");
              }};
    }
    return {.route = "none", .refusal = Response{.status = 404, .body = "nothing here"}};
  }

  void Hold(const std::shared_ptr<Exchange>& exchange) {
    exchange->OnGone([this, raw = exchange.get()] {
      ++gone_;
      MutexLock lock(mutex_);
      std::erase_if(held_, [raw](const auto& held) { return held.get() == raw; });
    });
    MutexLock lock(mutex_);
    held_.push_back(exchange);
    changed_.NotifyAll();
  }

  void Flood(const std::shared_ptr<Exchange>& exchange) {
    exchange->OnGone([this] { ++gone_; });
    exchange->OnFlushed([this, raw = exchange.get()] { WriteMore(*raw); });
    exchange->Begin({.content_type = "text/plain"});
  }
  void WriteMore(Exchange& exchange) {
    const std::string piece(4096, 'x');
    while (exchange.pending_bytes() < 65536) {
      exchange.Write(piece);
      flooded_bytes_ += 4096;
    }
  }

  Mutex mutex_;
  CondVar changed_;
  std::vector<std::shared_ptr<Exchange>> held_ ABSL_GUARDED_BY(mutex_);
  std::vector<AccessRecord> records_ ABSL_GUARDED_BY(mutex_);

 protected:
  std::unique_ptr<HttpServer> server_;  // Last: its threads use all of the above.
};

TEST_F(HttpServerTest, AnswersManyRequestsOnOneConnection) {
  TestClient client(port());
  for (int i = 0; i < 20; ++i) {
    const Answer answer = client.Post("/echo", absl::StrFormat("body %d", i));
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, absl::StrFormat("body %d", i));
    EXPECT_EQ(answer.headers.at("connection"), "keep-alive");
  }
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  TestClient client(port());
  std::string all;
  for (int i = 0; i < 50; ++i) all += TestClient::PostText("/echo", absl::StrFormat("body %d", i));
  client.Send(all);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.Read().body, absl::StrFormat("body %d", i));
}

TEST_F(HttpServerTest, KeepsARequestSentWhileAnotherIsAnswered) {
  TestClient client(port());
  client.Send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n");
  AwaitHeld(1);
  client.Send(TestClient::PostText("/echo", "second"));
  client.Send(TestClient::PostText("/echo", std::string(900, 'z')));
  Release();
  EXPECT_EQ(client.Read().body, "released");
  EXPECT_EQ(client.Read().body, "second");
  EXPECT_EQ(client.Read().body, std::string(900, 'z'));
}

TEST_F(HttpServerTest, StreamsInChunks) {
  TestClient client(port());
  const Answer answer = client.Get("/three");
  EXPECT_EQ(answer.headers.at("transfer-encoding"), "chunked");
  EXPECT_EQ(answer.body, "one two three");
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(client.Post("/echo", "and on").body, "and on");
}

TEST_F(HttpServerTest, StreamsToHttp10UntilClose) {
  TestClient client(port());
  const Answer answer = client.Request("GET /three HTTP/1.0\r\n\r\n");
  EXPECT_EQ(answer.headers.count("transfer-encoding"), 0u);
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_EQ(answer.body, "one two three");
}

TEST_F(HttpServerTest, ReadsChunkedBodies) {
  TestClient client(port());
  const Answer answer = client.Request(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
      "4\r\nfour\r\n5;x=y\r\n five\r\n0\r\n\r\n");
  EXPECT_EQ(answer.body, "four five");
}

TEST_F(HttpServerTest, ReadsARequestThatComesByteByByte) {
  TestClient client(port());
  for (const char c : TestClient::PostText("/echo", "slow")) client.Send(std::string(1, c));
  EXPECT_EQ(client.Read().body, "slow");
}

TEST_F(HttpServerTest, InvitesABodyThatExpectsIt) {
  TestClient client(port());
  client.Send("POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.Read().status, 100);
  client.Send("ok");
  EXPECT_EQ(client.Read().body, "ok");
}

TEST_F(HttpServerTest, HeadHasLengthButNoBody) {
  TestClient client(port());
  client.Send("HEAD /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc");
  const Answer answer = client.Read(/*head_request=*/true);
  EXPECT_EQ(answer.headers.at("content-length"), "3");
  EXPECT_EQ(client.Post("/echo", "next").body, "next");
}

struct BadCase {
  const char* name;
  std::string bytes;
  int status;
};
class BadRequests : public HttpServerTest, public ::testing::WithParamInterface<BadCase> {};

TEST_P(BadRequests, AreAnsweredAndTheConnectionCloses) {
  TestClient client(port());
  client.Send(GetParam().bytes);
  const Answer answer = client.Read();
  EXPECT_EQ(answer.status, GetParam().status) << answer.body;
  EXPECT_FALSE(answer.body.empty());
  EXPECT_EQ(answer.headers.count("x-request-id"), 1u);
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(client.Closed());
  EXPECT_EQ(TestClient(port()).Post("/echo", "alive").body, "alive");
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadRequests,
    ::testing::Values(
        BadCase{"garbage", "\x01\x02\x03 garbage\r\n\r\n", 400},
        BadCase{"tls_hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + "\r\n\r\n",
                400},
        BadCase{"http2_preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
        BadCase{"no_version", "GET /echo\r\n\r\n", 400},
        BadCase{"no_host", "GET /echo HTTP/1.1\r\n\r\n", 400},
        BadCase{"two_hosts", "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        BadCase{"bad_length", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", 400},
        BadCase{"two_lengths",
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400},
        BadCase{"length_and_chunked",
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: "
                "chunked\r\n\r\n0\r\n\r\n",
                400},
        BadCase{"bad_chunk", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                400},
        BadCase{"header_without_colon", "GET /echo HTTP/1.1\r\nHost: a\r\nbroken\r\n\r\n", 400},
        BadCase{"other_expectation",
                "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n", 417},
        BadCase{"long_target", "GET /" + std::string(5000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n", 431},
        BadCase{"long_header", "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(5000, 'a') + "\r\n\r\n", 431},
        BadCase{"long_body",
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n" + std::string(1001, 'a'),
                413},
        BadCase{"huge_length",
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\nx", 413},
        BadCase{"long_chunk",
                "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" +
                    std::string(2000, 'a') + "\r\n0\r\n\r\n",
                413},
        BadCase{"refused_with_body", "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n", 404}),
    [](const auto& info) { return info.param.name; });

TEST_F(HttpServerTest, TellsTheHandlerAtOnceThatTheClientLeft) {
  TestClient client(port());
  client.Send("GET /held HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: leaver\r\n\r\n");
  AwaitHeld(1);
  client.Close();
  const AccessRecord record = AwaitRecord("leaver");
  EXPECT_EQ(record.status, 499);
  EXPECT_TRUE(record.client_gone);
  EXPECT_TRUE(server_->AwaitIdle(absl::Seconds(20)));
  while (gone_ == 0) absl::SleepFor(absl::Milliseconds(1));  // Told after the record.
  EXPECT_EQ(gone_, 1);
  EXPECT_EQ(TestClient(port()).Post("/echo", "alive").body, "alive");
}

TEST_F(HttpServerTest, SeesAClientLeaveThatHasSentMoreBefore) {
  TestClient client(port());
  client.Send("GET /held HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: leaver\r\n\r\n");
  client.Send(TestClient::PostText("/echo", "never read"));
  AwaitHeld(1);
  client.Close();
  EXPECT_EQ(AwaitRecord("leaver").status, 499);
}

TEST_F(HttpServerTest, AReaderThatStopsStopsTheWriter) {
  TestClient client(port(), /*receive_buffer_bytes=*/16384);
  client.Send("GET /flood HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: sloth\r\n\r\n");
  ASSERT_EQ(client.ReadHead().status, 200);
  // It stands still once the buffers are full: far below what it would write unhindered.
  int64_t before = -1;
  while (before != flooded_bytes_) {
    before = flooded_bytes_;
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_LT(before, 4 << 20);
  int64_t read = 0;
  while (read < before + (1 << 20)) read += static_cast<int64_t>(client.ReadChunk().size());
  client.Close();
  EXPECT_TRUE(AwaitRecord("sloth").client_gone);
  EXPECT_TRUE(server_->AwaitIdle(absl::Seconds(20)));
  while (gone_ == 0) absl::SleepFor(absl::Milliseconds(1));  // Told after the record.
  EXPECT_EQ(gone_, 1);
}

TEST_F(HttpServerTest, RequestIdsAreEchoedWhenSane) {
  TestClient client(port());
  EXPECT_EQ(client.Post("/echo", "", "X-Request-Id: my-id.7\r\n").headers.at("x-request-id"), "my-id.7");
  const std::string made = client.Post("/echo", "", "X-Request-Id: not sane\r\n").headers.at("x-request-id");
  EXPECT_THAT(made, ::testing::StartsWith("req_"));
  const std::string long_id(200, 'a');
  EXPECT_NE(client.Post("/echo", "", "X-Request-Id: " + long_id + "\r\n").headers.at("x-request-id"),
            long_id);
}

TEST_F(HttpServerTest, PathsAreReadFromAllFormsOfTargets) {
  for (const char* target : {"/echo", "/echo?a=b", "http://localhost/echo", "http://localhost:1/echo?x"}) {
    EXPECT_EQ(TestClient(port()).Post(target, "yes").body, "yes") << target;
  }
}

TEST_F(HttpServerTest, ServesManyClientsAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([&, i] {
      TestClient client(port());
      for (int k = 0; k < 20; ++k) {
        const std::string body = absl::StrFormat("%d-%d", i, k);
        right += client.Post("/echo", body).body == body;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, 640);
}

TEST_F(HttpServerTest, DrainLetsOpenRequestsEndAndRefusesNewOnes) {
  TestClient idle(port()), open(port()), half(port()), just_come(port());
  EXPECT_EQ(idle.Post("/echo", "x").status, 200);
  open.Send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n");
  half.Send("POST /echo HTTP/1.1\r\n");
  AwaitHeld(1);
  server_->StopAdmitting();
  EXPECT_TRUE(idle.Closed());
  half.Send("Host: localhost\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(half.Read().status, 503);
  EXPECT_FALSE(server_->AwaitIdle(absl::ZeroDuration()));
  Release();
  const Answer answer = open.Read();
  EXPECT_EQ(answer.body, "released");
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(server_->AwaitIdle(absl::Seconds(20)));
  EXPECT_TRUE(server_->draining());
  EXPECT_FALSE(server_->AwaitClosed(absl::ZeroDuration())) << "one that has just come and may have a request";
  just_come.Send("GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(just_come.Read().status, 503);
  EXPECT_TRUE(server_->AwaitClosed(absl::Seconds(20)));
  TestClient late(port());
  EXPECT_TRUE(!late.connected() || late.Closed());
}

TEST_F(HttpServerTest, DestructionTellsOpenRequests) {
  TestClient client(port());
  client.Send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n");
  AwaitHeld(1);
  server_.reset();
  EXPECT_EQ(gone_, 1);
  EXPECT_TRUE(client.Closed());
}

TEST_F(HttpServerTest, StallingClientsAreClosedWithoutAnAnswer) {
  auto options = Defaults();
  options.header_timeout = options.body_timeout = options.idle_timeout = absl::Milliseconds(300);
  Start(std::move(options));
  for (const char* begun :
       {"", "GET / HT", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"}) {
    TestClient client(port());
    client.Send(begun);
    EXPECT_EQ(client.ReadToEnd(), "") << begun;
  }
  TestClient idle(port());
  EXPECT_EQ(idle.Post("/echo", "x").status, 200);
  EXPECT_TRUE(idle.Closed());
}

TEST_F(HttpServerTest, AClientThatTakesNothingIsDropped) {
  auto options = Defaults();
  options.write_timeout = absl::Milliseconds(200);
  Start(std::move(options));
  TestClient client(port(), 16384);
  client.Send("GET /flood HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: stuck\r\n\r\n");
  EXPECT_TRUE(AwaitRecord("stuck").client_gone);
}

TEST_F(HttpServerTest, ConnectionsAboveTheLimitAreToldSo) {
  auto options = Defaults();
  options.max_connections = 3;
  Start(std::move(options));
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<TestClient>(port()));
    EXPECT_EQ(clients.back()->Post("/echo", "x").status, 200);
  }
  TestClient extra(port());
  const Answer answer = extra.Post("/echo", "x");
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(answer.body, HasSubstr("3 connections"));
  clients[0]->Close();
  // The place is free once the server has seen it.
  while (TestClient(port()).Post("/echo", "x").status != 200) absl::SleepFor(absl::Milliseconds(5));
}

TEST_F(HttpServerTest, BodiesTogetherHaveALimit) {
  auto options = Defaults();
  options.max_total_body_bytes = 1500;
  Start(std::move(options));
  TestClient first(port());
  first.Send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n");
  EXPECT_EQ(first.Read().status, 100);
  EXPECT_EQ(TestClient(port()).Post("/echo", std::string(501, 'x')).status, 503);
  EXPECT_EQ(TestClient(port()).Post("/echo", std::string(500, 'x')).status, 200);
  first.Send(std::string(1000, 'y'));
  EXPECT_EQ(first.Read().status, 200);
  EXPECT_EQ(first.Post("/echo", std::string(1000, 'x')).status, 200);
}

TEST(HttpServerStart, SaysWhyItCannotListen) {
  HttpServer::Options options;
  options.admit = [](const Request&) { return Admission{}; };
  options.make_error = [](int, const std::string&) { return Response{}; };
  options.address = "0.0.0.0:0";
  EXPECT_EQ(HttpServer::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.address = "nonsense";
  EXPECT_EQ(HttpServer::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.address = "127.0.0.1:0";
  BDH_ASSERT_OK_AND_ASSIGN(auto server, HttpServer::Start(options));
  options.address = server->address();
  const auto taken = HttpServer::Start(options).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(taken.message()), HasSubstr(server->address()));
}

TEST(HttpMessage, PercentDecodes) {
  EXPECT_EQ(PercentDecode("a%2Fb%20c"), "a/b c");
  EXPECT_EQ(PercentDecode("100%"), "100%");
  EXPECT_EQ(PercentDecode("%4"), "%4");
  EXPECT_EQ(PercentDecode("%zz%41"), "%zzA");
}

TEST(HttpMessage, FormatsChunks) {
  EXPECT_EQ(FormatChunk("0123456789abcdefg"), "11\r\n0123456789abcdefg\r\n");
  EXPECT_EQ(FormatChunk(""), "");
}

}  // namespace
}  // namespace bdh::gateway
