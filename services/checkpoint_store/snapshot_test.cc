// Session snapshots as bdh-inference sees them: a real daemon, real sockets. What is put comes back, also
// after a restart; wrong, torn and stale puts leave the one before.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bdh/base/text.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/random_bytes.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/sessions.grpc.pb.h"
#include "services/checkpoint_store/server.h"

namespace bdh::checkpoint_store {
namespace {

using testing::HasSubstr;
using Stub = v1::SnapshotService::Stub;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr size_t kMiB = 1 << 20;

class SnapshotServerTest : public testing::Test {
 protected:
  void SetUp() override { Start(); }
  void Start() {
    server_.reset();
    Server::Options options;
    options.data_dir = folder_.path() + "/store";
    options.min_free_bytes = 0;
    options.max_snapshot_bytes = 8 * kMiB;
    options.snapshot_quota_bytes = 10 * kMiB;
    auto server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    peer_ = std::make_unique<mesh::Peer>("bdh-checkpoint-store", server_->address(), "");
    stub_ = v1::SnapshotService::NewStub(peer_->channel());
  }

  int64_t Own(const std::string& session, const std::string& owner = "inference-0:7041") {
    v1::OwnSessionRequest request;
    request.set_session(session);
    request.set_owner(owner);
    request.mutable_lease_duration()->set_seconds(60);
    const auto response = peer_->Call(*stub_, &Stub::OwnSession, request, kLong);
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->generation() : 0;
  }
  static v1::SessionSnapshot HeaderOf(const std::string& bytes) {
    v1::SessionSnapshot header;
    header.set_model_fingerprint("f");
    header.set_position(17);
    header.set_size_bytes(static_cast<int64_t>(bytes.size()));
    header.set_sha256(Sha256Hex(bytes));
    return header;
  }
  // `at_end`: size and digest come after the bytes, as from a sender who does not know them before.
  absl::StatusOr<v1::PutSnapshotResponse> Put(const std::string& session, int64_t generation,
                                              const std::string& bytes, const v1::SessionSnapshot& header,
                                              bool at_end = false) {
    const auto context = peer_->NewContext(kLong);
    v1::PutSnapshotResponse response;
    const auto writer = stub_->PutSnapshot(context.get(), &response);
    v1::PutSnapshotRequest request;
    request.mutable_header()->set_session(session);
    request.mutable_header()->set_tenant("t/u");
    request.mutable_header()->set_generation(generation);
    writer->Write(request);
    *request.mutable_chunk()->mutable_header() = header;
    if (at_end) request.mutable_chunk()->mutable_header()->clear_size_bytes();
    if (at_end) request.mutable_chunk()->mutable_header()->clear_sha256();
    writer->Write(request);
    for (size_t at = 0; at < bytes.size(); at += kMiB) {
      request.mutable_chunk()->set_data(bytes.substr(at, kMiB));
      if (!writer->Write(request)) break;
    }
    if (at_end) {
      *request.mutable_chunk()->mutable_end() = header;
      writer->Write(request);
    }
    writer->WritesDone();
    const absl::Status status = peer_->Outcome(writer->Finish());
    if (!status.ok()) return status;
    return response;
  }
  absl::StatusOr<v1::PutSnapshotResponse> Put(const std::string& session, const std::string& bytes,
                                              bool at_end = false) {
    return Put(session, Own(session), bytes, HeaderOf(bytes), at_end);
  }
  absl::StatusOr<std::string> Get(const std::string& session, v1::SessionSnapshot* header = nullptr) {
    v1::GetSnapshotRequest request;
    request.set_session(session);
    const auto context = peer_->NewContext(kLong);
    const auto reader = stub_->GetSnapshot(context.get(), request);
    v1::SnapshotChunk chunk;
    std::string bytes;
    if (reader->Read(&chunk) && header != nullptr) *header = chunk.header();
    while (reader->Read(&chunk)) {
      EXPECT_LE(chunk.data().size(), kMiB);
      bytes += chunk.data();
    }
    const absl::Status status = peer_->Outcome(reader->Finish());
    if (!status.ok()) return status;
    return bytes;
  }

  TempDirectory folder_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<mesh::Peer> peer_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(SnapshotServerTest, WhatWasPutComesBackAlsoAfterARestart) {
  const std::string bytes = RandomBytes(1, 5 * kMiB + 3), other = RandomBytes(2, 100);
  BDH_ASSERT_OK_AND_ASSIGN(const auto put, Put("chat/1", bytes));
  EXPECT_EQ(put.stored_bytes(), static_cast<int64_t>(bytes.size()));
  EXPECT_EQ(put.snapshot().tenant(), "t/u");
  BDH_ASSERT_OK(Put("chat/2", other, /*at_end=*/true));
  Start();
  v1::SessionSnapshot header;
  BDH_ASSERT_OK_AND_ASSIGN(const std::string got, Get("chat/1", &header));
  EXPECT_TRUE(got == bytes);
  EXPECT_EQ(header.DebugString(), HeaderOf(bytes).DebugString());
  BDH_ASSERT_OK_AND_ASSIGN(const std::string second, Get("chat/2", &header));
  EXPECT_TRUE(second == other);
  EXPECT_EQ(header.size_bytes(), 100);
  v1::ListSnapshotsRequest list;
  list.set_tenant("t");
  BDH_ASSERT_OK_AND_ASSIGN(const auto page, peer_->Call(*stub_, &Stub::ListSnapshots, list, kLong));
  ASSERT_EQ(page.snapshots_size(), 2);
  EXPECT_EQ(page.snapshots(0).session(), "chat/1");
  EXPECT_EQ(page.snapshots(0).header().position(), 17);
  v1::DeleteSnapshotRequest remove;
  remove.set_session("chat/1");
  BDH_ASSERT_OK_AND_ASSIGN(const auto removed, peer_->Call(*stub_, &Stub::DeleteSnapshot, remove, kLong));
  EXPECT_EQ(removed.freed_bytes(), static_cast<int64_t>(bytes.size()));
  EXPECT_EQ(Get("chat/1").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SnapshotServerTest, AStaleOwnersPutIsRefusedAndTheOneBeforeStays) {
  const int64_t mine = Own("s");
  BDH_ASSERT_OK(Put("s", mine, "mine", HeaderOf("mine")));
  const int64_t theirs = Own("s", "inference-1:7041");
  EXPECT_EQ(Put("s", mine, "stale", HeaderOf("stale")).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(*Get("s"), "mine");
  BDH_EXPECT_OK(Put("s", theirs, "theirs", HeaderOf("theirs")));
  EXPECT_EQ(*Get("s"), "theirs");
  v1::OwnSessionRequest request;
  request.set_session("s");
  request.set_owner("inference-2:7041");
  request.mutable_lease_duration()->set_seconds(60);
  request.set_unless_owned(true);
  EXPECT_EQ(peer_->Call(*stub_, &Stub::OwnSession, request, kLong).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(SnapshotServerTest, TornOversizedAndUnverifiablePutsAreRefused) {
  BDH_ASSERT_OK(Put("s", "whole"));
  const int64_t generation = Own("s");
  EXPECT_EQ(Put("s", generation, "torn", HeaderOf("torn, once")).status().code(),
            absl::StatusCode::kDataLoss);
  v1::SessionSnapshot without = HeaderOf("x");
  without.clear_sha256();
  EXPECT_EQ(Put("s", generation, "x", without).status().code(), absl::StatusCode::kInvalidArgument);
  const std::string large = RandomBytes(1, 9 * kMiB), fits = RandomBytes(2, 6 * kMiB);
  const auto refused = Put("s", generation, large, HeaderOf(large));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("max_snapshot_bytes"));
  EXPECT_EQ(Put("s", generation, large, HeaderOf(large), /*at_end=*/true).status().code(),
            absl::StatusCode::kResourceExhausted);
  BDH_ASSERT_OK(Put("other", fits));
  const auto full = Put("third", fits);
  EXPECT_EQ(full.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.status().message()), HasSubstr("snapshot_quota_bytes"));
  EXPECT_EQ(*Get("s"), "whole");
}

TEST_F(SnapshotServerTest, AClientThatVanishesLeavesTheOneBefore) {
  BDH_ASSERT_OK(Put("s", "whole"));
  {
    const auto context = peer_->NewContext(kLong);
    v1::PutSnapshotResponse response;
    const auto writer = stub_->PutSnapshot(context.get(), &response);
    v1::PutSnapshotRequest request;
    request.mutable_header()->set_session("s");
    request.mutable_header()->set_generation(Own("s"));
    writer->Write(request);
    *request.mutable_chunk()->mutable_header() = HeaderOf("half");
    writer->Write(request);
    request.mutable_chunk()->set_data("half");
    writer->Write(request);
    context->TryCancel();
    EXPECT_FALSE(writer->Finish().ok());
  }
  EXPECT_EQ(*Get("s"), "whole");
}

}  // namespace
}  // namespace bdh::checkpoint_store
