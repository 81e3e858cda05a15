// A checkpoint that is being read cannot be deleted: against a real store, over real sockets, also for as
// long as LoadModel of a real bdh-inference takes.

#include "services/inference/checkpoint_pin.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "bdh/base/address.h"
#include "bdh/base/mutex.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/checkpoint_admin.grpc.pb.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "services/checkpoint_store/server.h"
#include "services/inference/server_test_fixture.h"

namespace bdh::inference {
namespace {

using Stub = v1::CheckpointStoreService::Stub;

constexpr char kName[] = "runs/a/steps/1";

// Returns when the store has answered so many calls of a method with OK.
void AwaitHandled(const checkpoint_store::Server& store, const std::string& method, int count) {
  const std::string line = "bdh_rpc_handled_total{code=\"OK\",method=\"" + method + "\"} ";
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (true) {
    ASSERT_LT(absl::Now(), deadline) << method << " does not come";
    const std::string text = store.metrics().Serialize();
    const size_t at = text.find(line);
    if (at != std::string::npos && std::atoi(text.c_str() + at + line.size()) >= count) return;
    std::this_thread::yield();
  }
}

class CheckpointPinTest : public testing::Test {
 protected:
  void SetUp() override {
    checkpoint_store::Server::Options options;
    options.data_dir = folder_.path() + "/store";
    options.min_free_bytes = 0;
    auto server = checkpoint_store::Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    peer_ = std::make_unique<mesh::Peer>("bdh-checkpoint-store", server_->address(), "");
    stub_ = v1::CheckpointStoreService::NewStub(peer_->channel());
    const auto context = peer_->NewContext(absl::Seconds(20));
    v1::PutCheckpointResponse response;
    const auto writer = stub_->PutCheckpoint(context.get(), &response);
    v1::PutCheckpointRequest request;
    request.mutable_checkpoint()->set_name(kName);
    writer->Write(request);
    writer->WritesDone();
    BDH_ASSERT_OK(peer_->Outcome(writer->Finish()));
  }

  absl::Status Delete() {
    v1::DeleteCheckpointRequest request;
    request.set_name(kName);
    return peer_->Call(*stub_, &Stub::DeleteCheckpoint, request, absl::Seconds(20)).status();
  }
  void AwaitPins(int count) { AwaitHandled(*server_, "PinCheckpoint", count); }

  TempDirectory folder_;
  std::unique_ptr<checkpoint_store::Server> server_;
  std::unique_ptr<mesh::Peer> peer_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(CheckpointPinTest, ItHoldsAsLongAsSomebodyReadsAndIsRenewed) {
  std::optional<CheckpointPin> one(std::in_place, *peer_, kName, absl::Milliseconds(1200));
  std::optional<CheckpointPin> two(std::in_place, *peer_, kName, absl::Milliseconds(1200));
  AwaitPins(6);  // Each three times: renewed.
  EXPECT_EQ(Delete().code(), absl::StatusCode::kFailedPrecondition);
  one.reset();
  EXPECT_EQ(Delete().code(), absl::StatusCode::kFailedPrecondition) << "the other one still reads";
  two.reset();
  BDH_EXPECT_OK(Delete());
}

TEST_F(CheckpointPinTest, AStoreThatIsGoneHoldsNobodyUp) {
  std::optional<CheckpointPin> pin(std::in_place, *peer_, kName);
  AwaitPins(1);
  server_.reset();
  pin.reset();
}

// Passes bytes between clients and a server on loopback; what the server answers it can hold back.
class Relay {
 public:
  explicit Relay(const std::string& target) : target_(target), listener_(Open()) {
    sockaddr_in at = Loopback(0);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    socklen_t size = sizeof(at);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size), 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
    threads_.emplace_back([this] { Accept(); });
  }
  ~Relay() {
    Release();
    shutdown(listener_, SHUT_RDWR);
    threads_.front().join();  // From here on no thread or socket is added.
    for (const int socket : sockets_) shutdown(socket, SHUT_RDWR);
    for (size_t i = 1; i < threads_.size(); ++i) threads_[i].join();
    for (const int socket : sockets_) close(socket);
    close(listener_);
  }
  const std::string& address() const { return address_; }

  // From now on only so many bytes of answers pass.
  void HoldBack(int64_t after_bytes) {
    const MutexLock lock(mutex_);
    allowance_ = after_bytes;
  }
  void Release() {
    const MutexLock lock(mutex_);
    allowance_.reset();
    changed_.NotifyAll();
  }

 private:
  static int Open() { return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }
  static sockaddr_in Loopback(int port) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<uint16_t>(port));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
  }
  void Accept() {
    while (true) {
      const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) return;
      const int server = Open();
      const sockaddr_in at = Loopback(ParseHostPort(target_)->port);
      EXPECT_EQ(connect(server, reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 0);
      sockets_.push_back(client);
      sockets_.push_back(server);
      threads_.emplace_back([=, this] { Pump(client, server, /*answers=*/false); });
      threads_.emplace_back([=, this] { Pump(server, client, /*answers=*/true); });
    }
  }
  void Pump(int from, int to, bool answers) {
    std::array<char, 4096> buffer;
    while (true) {
      const ssize_t got = recv(from, buffer.data(), buffer.size(), 0);
      if (got <= 0) break;
      if (answers) Await(got);
      for (ssize_t sent = 0; sent < got;) {
        const ssize_t more = send(to, buffer.data() + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
        if (more <= 0) break;
        sent += more;
      }
    }
    shutdown(to, SHUT_WR);
  }
  void Await(int64_t bytes) {
    const MutexLock lock(mutex_);
    while (allowance_.has_value() && *allowance_ < bytes) changed_.Wait(mutex_);
    if (allowance_.has_value()) *allowance_ -= bytes;
  }

  const std::string target_;
  const int listener_;
  std::string address_;
  std::vector<int> sockets_;  // Those of the accepting thread until it has ended.
  Mutex mutex_;
  CondVar changed_;
  std::optional<int64_t> allowance_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

TEST_F(InferenceFixture, LoadModelKeepsItsCheckpointFromGoingUntilItHasIt) {
  Relay relay(store_address_);
  StartInference([&](Server::Options& options) { options.store_address = relay.address(); });
  BDH_ASSERT_OK(Put(Golden("golden")));
  TestCheckpoint newer = Golden("golden");
  newer.header.set_name("runs/golden/steps/2");
  newer.header.set_step(2);
  BDH_ASSERT_OK(Put(newer));
  const auto admin = v1::CheckpointAdminService::NewStub(store_peer_->channel());
  const auto delete_it = [&] {
    v1::DeleteCheckpointRequest request;
    request.set_name("runs/golden/steps/1");
    return store_peer_->Call(*store_stub_, &Stub::DeleteCheckpoint, request, kTimeout).status();
  };

  relay.HoldBack(16 << 10);  // The description passes, the weights do not.
  auto load = std::async(std::launch::async, [&] { return Load("runs/golden/steps/1", "tiny").status(); });
  AwaitHandled(*store_, "PinCheckpoint", 1);
  EXPECT_EQ(delete_it().code(), absl::StatusCode::kFailedPrecondition);
  v1::SetRetentionRequest policy;
  policy.set_run("golden");
  policy.mutable_policy()->set_keep_last(1);
  using Admin = v1::CheckpointAdminService::Stub;
  BDH_ASSERT_OK(store_peer_->Call(*admin, &Admin::SetRetention, policy, kTimeout));
  v1::ApplyRetentionRequest apply;
  apply.set_run("golden");
  BDH_ASSERT_OK_AND_ASSIGN(const auto kept,
                           store_peer_->Call(*admin, &Admin::ApplyRetention, apply, kTimeout));
  EXPECT_EQ(kept.deleted_size(), 0);
  EXPECT_EQ(load.wait_for(std::chrono::seconds(0)), std::future_status::timeout)
      << "it has everything already";

  relay.Release();
  BDH_EXPECT_OK(load.get());
  AwaitHandled(*store_, "UnpinCheckpoint", 1);
  EXPECT_EQ(Generate(Request("tiny", 2)).tokens.size(), 2u);
  BDH_ASSERT_OK_AND_ASSIGN(const auto gone,
                           store_peer_->Call(*admin, &Admin::ApplyRetention, apply, kTimeout));
  ASSERT_EQ(gone.deleted_size(), 1);
  EXPECT_EQ(gone.deleted(0), "runs/golden/steps/1");
  StopInference();  // Before the relay goes.
}

}  // namespace
}  // namespace bdh::inference
