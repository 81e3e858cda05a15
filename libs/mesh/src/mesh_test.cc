// What every daemon owes to the mesh, shown on a real server over real sockets: the token is demanded, health
// and readiness tell the truth, limits hold, garbage does no harm, and errors are sentences.

#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/mesh/daemon.h"
#include "bdh/mesh/grpc_status.h"
#include "bdh/mesh/peer.h"
#include "bdh/mesh/server.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/mesh.grpc.pb.h"

namespace bdh::mesh {
namespace {

using boost::asio::ip::tcp;

// What a socket at `address` answers to `bytes`, until it closes.
std::string Send(const std::string& address, const std::string& bytes) {
  boost::asio::io_context context;
  tcp::socket socket(context);
  const size_t colon = address.rfind(':');
  boost::asio::connect(socket,
                       tcp::resolver(context).resolve(address.substr(0, colon), address.substr(colon + 1)));
  boost::system::error_code error;
  boost::asio::write(socket, boost::asio::buffer(bytes),
                     error);  // A server that has read enough may close early.
  std::string answer;
  boost::asio::read(socket, boost::asio::dynamic_buffer(answer), error);
  return answer;
}

std::string Get(const std::string& address, const std::string& path) {
  return Send(address, absl::StrFormat("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path));
}

// The first answer to `request`, both as bytes on the wire, or the error's message. Health and reflection
// come without generated stubs in Debian's gRPC.
std::string RawCall(const Peer& peer, const std::string& method, const std::string& request) {
  grpc::GenericStub stub(peer.channel());
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  const auto context = peer.NewContext(absl::Seconds(10), /*wait_for_ready=*/true);
  const auto call = stub.PrepareCall(context.get(), method, &queue);
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  const grpc::Slice slice(request);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &ok);
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  queue.Next(&tag, &ok);
  std::string bytes;
  grpc::Slice whole;
  if (ok && answer.DumpToSingleSlice(&whole).ok()) bytes.assign(whole.begin(), whole.end());
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  return status.ok() ? bytes : status.error_message();
}

class MeshServerTest : public testing::Test {
 protected:
  void SetUp() override { server_ = Start("right-token", "127.0.0.1:0"); }

  std::unique_ptr<Server> Start(const std::string& token, const std::string& address) {
    gate_ = std::make_unique<Gate>("bdh-test", ListenOptions{.credentials = token}, metrics_);
    auto server = Server::Start({.daemon = "bdh-test",
                                 .listen = {.address = address, .credentials = token},
                                 .service_names = {"bdh.v1.TestService"},
                                 .gate = gate_.get(),
                                 .metrics = &metrics_,
                                 .key_figure = [] { return std::string("7 things"); }});
    EXPECT_TRUE(server.ok()) << server.status();
    return server.ok() ? *std::move(server) : nullptr;
  }

  absl::StatusOr<v1::GetStatusResponse> Status(const std::string& token) {
    const Peer peer("bdh-test", server_->address(), token);
    const auto stub = v1::MeshService::NewStub(peer.channel());
    return peer.Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), absl::Seconds(5));
  }

  telemetry::Metrics metrics_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<Server> server_;
};

TEST_F(MeshServerTest, TheStatusSaysWhoAndHow) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto before, Status("right-token"));
  EXPECT_FALSE(before.ready());
  server_->SetReady(true);
  BDH_ASSERT_OK_AND_ASSIGN(const auto status, Status("right-token"));
  EXPECT_EQ(status.daemon(), "bdh-test");
  EXPECT_EQ(status.address(), server_->address());
  EXPECT_EQ(status.key_figure(), "7 things");
  EXPECT_EQ(status.pid(), getpid());
  EXPECT_TRUE(status.ready());
}

TEST_F(MeshServerTest, AWrongOrMissingTokenIsRefusedInASentence) {
  const auto missing = Status("").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_TRUE(absl::StrContains(missing.message(), "the call carries none")) << missing;
  for (const char* wrong : {"wrong-token", "right-toke", "right-token2"}) {
    const auto status = Status(wrong).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
    EXPECT_TRUE(absl::StrContains(status.message(), "does not accept this mesh token")) << status;
  }
}

TEST_F(MeshServerTest, ReadinessIsTheSameOnBothPorts) {
  EXPECT_TRUE(absl::StrContains(Get(server_->admin_address(), "/readyz"), "503")) << "not ready at start";
  server_->SetReady(true);
  EXPECT_TRUE(absl::StrContains(Get(server_->admin_address(), "/readyz"), "200 OK"));
  EXPECT_TRUE(absl::StrContains(Get(server_->admin_address(), "/healthz"), "200 OK"));
  server_->Shutdown(absl::ZeroDuration());
  EXPECT_TRUE(absl::StrContains(Get(server_->admin_address(), "/readyz"), "503")) << "draining";
}

TEST_F(MeshServerTest, HealthIsAnsweredForEachServiceAndForTheWhole) {
  const Peer peer("bdh-test", server_->address(), "");  // Probes carry no token.
  // HealthCheckRequest.service is field 1; HealthCheckResponse.status is field 1: 1 serving, 2 not.
  const auto check = [&](const std::string& service) {
    return RawCall(peer, "/grpc.health.v1.Health/Check",
                   "\x0a" + std::string(1, char(service.size())) + service);
  };
  for (const char* service : {"", "bdh.v1.MeshService", "bdh.v1.TestService"}) {
    server_->SetReady(false);
    EXPECT_EQ(check(service), "\x08\x02") << service;
    server_->SetReady(true);
    EXPECT_EQ(check(service), "\x08\x01") << service;
  }
}

TEST_F(MeshServerTest, ReflectionListsTheServices) {
  const Peer peer("bdh-test", server_->address(), "");
  // ServerReflectionRequest.list_services is field 7.
  const std::string services =
      RawCall(peer, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "\x3a\x01*");
  EXPECT_TRUE(absl::StrContains(services, "bdh.v1.MeshService")) << services;
  EXPECT_TRUE(absl::StrContains(services, "grpc.health.v1.Health")) << services;
}

TEST_F(MeshServerTest, BeyondLoopbackTheTokenIsNotOptional) {
  const ListenOptions everywhere{.address = "0.0.0.0:0"};
  Gate open("bdh-open", everywhere, metrics_);
  const auto refused =
      Server::Start({.daemon = "bdh-open", .listen = everywhere, .gate = &open, .metrics = &metrics_});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(refused.status().message(), "mesh.token_file")) << refused.status();
  const ListenOptions guarded{.address = "0.0.0.0:0", .credentials = "a-token"};
  Gate closed("bdh-closed", guarded, metrics_);
  BDH_EXPECT_OK(
      Server::Start({.daemon = "bdh-closed", .listen = guarded, .gate = &closed, .metrics = &metrics_}));
}

TEST_F(MeshServerTest, TheAdminPortTakesIpv6AsGrpcDoes) {
  Gate gate("bdh-six", {}, metrics_);
  const auto server = Server::Start({.daemon = "bdh-six",
                                     .listen = {.address = "[::1]:0", .admin_address = "[::1]:0"},
                                     .gate = &gate,
                                     .metrics = &metrics_});
  if (absl::IsUnavailable(server.status())) GTEST_SKIP() << "no IPv6 here: " << server.status();
  BDH_ASSERT_OK(server);
  EXPECT_TRUE((*server)->admin_address().starts_with("[::1]:")) << (*server)->admin_address();
}

TEST_F(MeshServerTest, MetricsCountTheCalls) {
  BDH_ASSERT_OK(Status("right-token"));
  ASSERT_FALSE(Status("wrong").ok());
  const std::string page = Get(server_->admin_address(), "/metrics");
  EXPECT_TRUE(absl::StrContains(page, "bdh_rpc_handled_total{code=\"OK\",method=\"GetStatus\"} 1")) << page;
  EXPECT_TRUE(
      absl::StrContains(page, "bdh_rpc_handled_total{code=\"UNAUTHENTICATED\",method=\"GetStatus\"} 1"));
  EXPECT_TRUE(absl::StrContains(page, "bdh_rpc_handling_seconds_count{method=\"GetStatus\"} 2"));
}

TEST_F(MeshServerTest, TheAdminPortAnswersOnlyWhatItServes) {
  EXPECT_TRUE(absl::StrContains(Get(server_->admin_address(), "/etc/passwd"), "404"));
  EXPECT_TRUE(
      absl::StrContains(Send(server_->admin_address(), "POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), "405"));
  EXPECT_EQ(Send(server_->admin_address(), "\x01\x02garbage\r\n\r\n"), "");
  EXPECT_EQ(Send(server_->admin_address(), "GET /" + std::string(100000, 'a')), "");
  EXPECT_TRUE(absl::StrContains(Get(server_->admin_address(), "/healthz"), "200 OK"))
      << "alive after garbage";
}

TEST_F(MeshServerTest, GarbageOnTheGrpcPortDoesNoHarm) {
  Send(server_->address(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  BDH_EXPECT_OK(Status("right-token"));
}

TEST_F(MeshServerTest, ATakenPortIsNamed) {
  Gate gate("bdh-second", {}, metrics_);
  const auto second = Server::Start({.daemon = "bdh-second",
                                     .listen = {.address = server_->address()},
                                     .gate = &gate,
                                     .metrics = &metrics_});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(second.status().message(), server_->address())) << second.status();
  const auto admin = Server::Start({.daemon = "bdh-second",
                                    .listen = {.admin_address = server_->admin_address()},
                                    .gate = &gate,
                                    .metrics = &metrics_});
  EXPECT_EQ(admin.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(MeshServerTest, APeerThatIsGoneIsNamedWithItsAddress) {
  const std::string address = server_->address();
  const Peer peer("bdh-test", address, "right-token");
  const auto stub = v1::MeshService::NewStub(peer.channel());
  server_.reset();
  const auto status =
      peer.Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), absl::Seconds(5)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(
      absl::StrContains(status.message(), absl::StrFormat("bdh-test at %s does not answer", address)));
}

TEST_F(MeshServerTest, APeerComesBackWithItsDaemon) {
  const std::string address = server_->address();
  const Peer peer("bdh-test", address, "");
  const auto stub = v1::MeshService::NewStub(peer.channel());
  server_.reset();
  EXPECT_FALSE(
      peer.Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), absl::Seconds(1)).ok());
  server_ = Start("", address);
  BDH_EXPECT_OK(peer.Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), absl::Seconds(10),
                          /*wait_for_ready=*/true));
}

TEST(GrpcStatus, CodeAndMessageGoThroughUnchanged) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), code == 0 ? "" : "why");
    EXPECT_EQ(FromGrpc(ToGrpc(status)), status);
  }
}

TEST(GrpcStatus, WhatAHandlerSaysIsNotTakenForTheConnection) {
  const Peer peer("bdh-trainer-worker", "127.0.0.1:1", "");
  const absl::Status said = absl::UnavailableError("bdh-data-loader does not answer");
  EXPECT_EQ(peer.Outcome(ToGrpc(said)), said);
  EXPECT_TRUE(absl::StrContains(peer.Outcome({grpc::StatusCode::UNAVAILABLE, "refused"}).message(),
                                "bdh-trainer-worker at 127.0.0.1:1 does not answer (refused)"));
}

TEST(Token, IsReadFromAPrivateFileOnly) {
  TempDirectory folder;
  v1::MeshConfig mesh;
  const auto read = [&mesh] { return Credentials::Load(mesh, "bdh-test"); };
  BDH_ASSERT_OK_AND_ASSIGN(const Credentials none, read());
  EXPECT_EQ(none.token(), "");
  mesh.set_token_file(folder.path() + "/token");
  EXPECT_EQ(read().status().code(), absl::StatusCode::kNotFound);
  BDH_ASSERT_OK(WriteFileAtomically(mesh.token_file(), "secret\n", 0600));
  BDH_ASSERT_OK_AND_ASSIGN(const Credentials one, read());
  EXPECT_EQ(one.token(), "secret");
  ASSERT_EQ(chmod(mesh.token_file().c_str(), 0644), 0);
  const auto open = read().status();
  EXPECT_TRUE(absl::StrContains(open.message(), "chmod 600")) << open;
  for (const char* bad : {"", "\n", "# only a comment\n", "three words here", "Bad! name", "tab\x01"}) {
    BDH_ASSERT_OK(WriteFileAtomically(mesh.token_file(), bad, 0600));
    EXPECT_FALSE(read().ok()) << bad;
  }
}

}  // namespace
}  // namespace bdh::mesh
