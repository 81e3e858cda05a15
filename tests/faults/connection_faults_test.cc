// Expired and foreign certificates, wrong tokens, plain text where TLS is spoken, garbage on every port, a
// thousand connections that say nothing, clients that never read: one mesh of five real daemons with TLS has
// it all done to it, refuses or bounds it, says so in a sentence, and serves afterwards with the processes it
// began with.

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/address.h"
#include "bdh/base/file.h"
#include "bdh/certs/certificate.h"
#include "bdh/certs/folder.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/data_loader.grpc.pb.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "tests/e2e/http_client.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

using ::testing::HasSubstr;

constexpr int kHalfOpen = 1000;
constexpr int kMaxStreams = 3;
const char* const kDaemons[] = {"bdh-checkpoint-store", "bdh-data-loader", "bdh-trainer-worker",
                                "bdh-inference", "bdh-gateway"};

template <class Condition>
bool Await(Condition condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

// A TCP connection to a port on loopback.
class Socket {
 public:
  explicit Socket(const std::string& address) : descriptor_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const auto at = ParseHostPort(address);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(at->port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(descriptor_, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0)
        << address << strerror(errno);
  }
  Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  ~Socket() {
    if (descriptor_ >= 0) close(descriptor_);
  }

  void Send(const std::string& bytes) const { send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  void EndSending() const { shutdown(descriptor_, SHUT_WR); }
  // Whether the other side has closed; reads away what it says.
  bool Closed() const {
    char buffer[4096];
    while (true) {
      const ssize_t bytes = recv(descriptor_, buffer, sizeof(buffer), MSG_DONTWAIT);
      if (bytes > 0) continue;
      return bytes == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }
  }

 private:
  int descriptor_;
};

class ConnectionFaults : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    folder_ = std::make_unique<TempDirectory>();
    mesh_ = std::make_unique<MeshDriver>(folder_->path());
    const Outcome up =
        mesh_->Up({"--tls", "--set", "mesh.tls.reload_seconds=1", "--set", "mesh.limits.handshake_seconds=1",
                   "--set", absl::StrFormat("data_loader.max_streams=%d", kMaxStreams)});
    ASSERT_EQ(up.exit_code, 0) << up.err;
    mesh_->Ok({"data", "add", "words", "-"}, std::string(50'000, 'w'));
    pids_ = mesh_->Processes();
  }
  static void TearDownTestSuite() {
    mesh_.reset();
    folder_.reset();
  }

  // All are well, and none was restarted on the way.
  void TearDown() override {
    EXPECT_TRUE(mesh_->WaitUntilHealthy()) << mesh_->Status().dump(2);
    EXPECT_EQ(mesh_->Processes(), pids_);
    EXPECT_THAT(mesh_->Ok({"data", "ls"}), HasSubstr("words"));
  }

  static std::string Address(const std::string& daemon) { return mesh_->Daemon(daemon).at("address"); }
  static std::vector<std::string> AllPorts() {
    std::vector<std::string> ports;
    for (const char* daemon : kDaemons) {
      ports.push_back(Address(daemon));
      ports.push_back(mesh_->Daemon(daemon).at("admin_address"));
    }
    ports.push_back(HttpAddress());
    return ports;
  }
  static std::string HttpAddress() {
    return mesh_->Status().at("url").get<std::string>().substr(std::string("http://").size());
  }
  static certs::Folder Certificates() { return certs::Folder(mesh_->data() + "/tls"); }

  static v1::MeshConfig Config() {
    v1::MeshConfig config;
    config.set_token_file(mesh_->data() + "/token");
    config.mutable_tls()->set_ca_file(Certificates().AuthorityFile());
    config.mutable_tls()->set_cert_file(Certificates().CertificateFile("{daemon}"));
    config.mutable_tls()->set_key_file(Certificates().KeyFile("{daemon}"));
    return config;
  }
  static mesh::Credentials OfTheTool() {
    auto credentials = mesh::Credentials::Load(Config(), "bdhctl");
    BDH_EXPECT_OK(credentials);
    return *credentials;
  }
  static absl::Status Ask(const std::string& daemon, const mesh::Credentials& credentials) {
    const mesh::Peer peer(daemon, Address(daemon), credentials);
    const auto stub = v1::MeshService::NewStub(peer.channel());
    return peer.Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), absl::Seconds(10))
        .status();
  }
  // How a handshake with this certificate and key ends, whatever our own checks would say of them.
  static grpc::StatusCode AskWith(const certs::Pair& pair) {
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride("bdh-data-loader");
    const auto channel = grpc::CreateCustomChannel(
        Address("bdh-data-loader"),
        grpc::SslCredentials({*ReadFile(Certificates().AuthorityFile()), pair.key, pair.certificate}),
        arguments);
    grpc::ClientContext context;
    v1::GetStatusResponse response;
    return v1::MeshService::NewStub(channel)->GetStatus(&context, {}, &response).error_code();
  }

  static std::string Log(const std::string& daemon) {
    const auto text = ReadFile(mesh_->data() + "/logs/" + daemon + ".log");
    return text.ok() ? *text : "";
  }
  static bool LogSays(const std::string& daemon, const std::string& sentence) {
    return Await([&] { return Log(daemon).find(sentence) != std::string::npos; });
  }
  static int64_t ResidentBytes(const std::string& daemon) {
    std::ifstream statm(absl::StrFormat("/proc/%d/statm", mesh_->Daemon(daemon).at("pid").get<int>()));
    int64_t size = 0, resident = 0;
    statm >> size >> resident;
    return resident * sysconf(_SC_PAGESIZE);
  }

  static std::unique_ptr<TempDirectory> folder_;
  static std::unique_ptr<MeshDriver> mesh_;
  static std::vector<pid_t> pids_;
};

std::unique_ptr<TempDirectory> ConnectionFaults::folder_;
std::unique_ptr<MeshDriver> ConnectionFaults::mesh_;
std::vector<pid_t> ConnectionFaults::pids_;

TEST_F(ConnectionFaults, AnExpiredCertificateIsRefused) {
  const certs::Folder ours = Certificates();
  const certs::Pair authority{*ReadFile(ours.AuthorityFile()), *ReadFile(ours.KeyFile("ca"))};
  const absl::Time now = absl::Now();
  BDH_ASSERT_OK_AND_ASSIGN(const certs::Pair good,
                           certs::Issue(authority, {"bdhctl", {}}, certs::DaysFromNow(1)));
  EXPECT_EQ(AskWith(good), grpc::StatusCode::UNAUTHENTICATED) << "it gets as far as the missing token";
  BDH_ASSERT_OK_AND_ASSIGN(
      const certs::Pair expired,
      certs::Issue(authority, {"bdhctl", {}}, {now - absl::Hours(2), now - absl::Hours(1)}));
  EXPECT_EQ(AskWith(expired), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(LogSays("bdh-data-loader", "of another authority than mesh.tls.ca_file, or has expired"));
}

TEST_F(ConnectionFaults, AForeignCertificateIsRefused) {
  BDH_ASSERT_OK_AND_ASSIGN(const certs::Pair other, certs::MakeAuthority("other", certs::DaysFromNow(1)));
  BDH_ASSERT_OK_AND_ASSIGN(const certs::Pair foreign,
                           certs::Issue(other, {"bdhctl", {}}, certs::DaysFromNow(1)));
  EXPECT_EQ(AskWith(foreign), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ConnectionFaults, AWrongTokenIsRefusedByAllWithASentence) {
  for (const char* daemon : kDaemons) {
    const absl::Status status = Ask(daemon, OfTheTool().WithToken("wrong"));
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << daemon << status;
    EXPECT_TRUE(LogSays(daemon, "does not accept this mesh token")) << daemon;
  }
}

TEST_F(ConnectionFaults, PlainTextOnATlsPortIsRefusedWithASentence) {
  for (const char* daemon : kDaemons) {
    EXPECT_EQ(Ask(daemon, mesh::Credentials("token")).code(), absl::StatusCode::kUnavailable) << daemon;
    EXPECT_TRUE(LogSays(daemon, "somebody spoke something else than TLS")) << daemon;
  }
}

TEST_F(ConnectionFaults, GarbageOnEveryPortDoesNoHarm) {
  std::mt19937 random(7);
  std::string noise(20'000, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  const std::string hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);  // How TLS begins.
  const std::vector<std::string> garbage = {noise,
                                            preface + noise,
                                            hello + noise,
                                            std::string(100'000, '\0'),
                                            "GET / HTTP/1.1\r\n" + std::string(100'000, 'a'),
                                            preface + std::string("\xff\xff\xff\x00\x00\x00\x00\x00\x00", 9),
                                            "\r\n\r\n\r\n",
                                            "POST /v1/completions HTTP/1.1\r\n"
                                            "Host: x\r\nContent-Length: 99999999999999999999\r\n\r\n"};
  for (const std::string& port : AllPorts()) {
    std::vector<Socket> sockets;
    for (const std::string& bytes : garbage) {
      sockets.emplace_back(port);
      sockets.back().Send(bytes);
      sockets.back().EndSending();
    }
    for (const Socket& socket : sockets) EXPECT_TRUE(Await([&] { return socket.Closed(); })) << port;
  }
}

TEST_F(ConnectionFaults, AThousandConnectionsThatSayNothingAreClosedAndOthersServed) {
  for (const char* daemon : {"bdh-checkpoint-store", "bdh-inference"}) {
    const std::string address = Address(daemon);
    std::vector<Socket> sockets;
    for (int i = 0; i < kHalfOpen; ++i) sockets.emplace_back(address);
    BDH_EXPECT_OK(Ask(daemon, OfTheTool()));
    EXPECT_TRUE(Await([&] {
      return std::all_of(sockets.begin(), sockets.end(),
                         [](const Socket& socket) { return socket.Closed(); });
    })) << daemon;
  }
}

TEST_F(ConnectionFaults, AThousandHalfOpenConnectionsOverHttpAreBoundedAndOthersServedAfter) {
  const std::string address = HttpAddress();
  {
    std::vector<Socket> sockets;
    for (int i = 0; i < kHalfOpen; ++i) {
      sockets.emplace_back(address);
      sockets.back().Send("POST /v1/completions HTTP/1.1\r\nHost: x\r\n");
    }
    BDH_ASSERT_OK_AND_ASSIGN(const HttpResponse during, Get("http://" + address + "/healthz"));
    EXPECT_EQ(during.status, 200) << "24 places are left";
  }
  EXPECT_TRUE(Await([&] {
    const auto after = Get("http://" + address + "/readyz");
    return after.ok() && after->status == 200;
  }));
}

TEST_F(ConnectionFaults, ClientsThatNeverReadHoldNoMoreThanTheirStreamsAndGiveThemBack) {
  const mesh::Peer peer("bdh-data-loader", Address("bdh-data-loader"), OfTheTool());
  const auto stub = v1::DataLoaderService::NewStub(peer.channel());
  v1::StreamBatchesRequest request;
  request.set_dataset("words");
  request.set_split(v1::SPLIT_TRAIN);
  request.set_batch_size(4096);
  request.set_block_size(512);
  const int64_t before = ResidentBytes("bdh-data-loader");
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::Batch>>> readers;
  v1::Batch batch;
  const auto open = [&] {
    contexts.push_back(peer.NewContext(absl::Minutes(5)));
    readers.push_back(stub->StreamBatches(contexts.back().get(), request));
    return readers.back()->Read(&batch);  // The first one, and then never again.
  };
  for (int i = 0; i < kMaxStreams; ++i) EXPECT_TRUE(open());
  EXPECT_FALSE(open());
  const grpc::Status refused = readers.back()->Finish();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << refused.error_message();
  EXPECT_LT(ResidentBytes("bdh-data-loader") - before, int64_t{128} << 20)
      << "flow control holds the rest back";
  BDH_EXPECT_OK(Ask("bdh-data-loader", OfTheTool()));
  for (int i = 0; i < kMaxStreams; ++i) contexts[static_cast<size_t>(i)]->TryCancel();
  for (int i = 0; i < kMaxStreams; ++i) readers[static_cast<size_t>(i)]->Finish();
  EXPECT_TRUE(Await([&] { return open(); })) << "places are given back";
  contexts.back()->TryCancel();
  for (size_t i = kMaxStreams + 1; i < readers.size(); ++i) readers[i]->Finish();
}

}  // namespace
}  // namespace bdh::e2e
