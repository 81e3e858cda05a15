// A checkpoint that is being read cannot be deleted: against a real store, over real sockets.

#include "services/inference/checkpoint_pin.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <thread>

#include "absl/time/clock.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/checkpoint_store.grpc.pb.h"
#include "services/checkpoint_store/server.h"

namespace bdh::inference {
namespace {

using Stub = v1::CheckpointStoreService::Stub;

constexpr char kName[] = "runs/a/steps/1";

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
  // Returns when the store has pinned so often.
  void AwaitPins(int count) {
    const std::string line = "bdh_rpc_handled_total{code=\"OK\",method=\"PinCheckpoint\"} ";
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (true) {
      ASSERT_LT(absl::Now(), deadline) << "pins do not come";
      const std::string text = server_->metrics().Serialize();
      const size_t at = text.find(line);
      if (at != std::string::npos && std::atoi(text.c_str() + at + line.size()) >= count) return;
      std::this_thread::yield();
    }
  }

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

}  // namespace
}  // namespace bdh::inference
