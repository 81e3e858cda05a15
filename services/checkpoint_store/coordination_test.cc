// What workers agree on, as they see it: a real daemon, real sockets. A hundred workers find each other;
// calls that wait end when their client goes away, when their time is over and when the daemon leaves; and
// there is a limit to them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/mesh/peer.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/coordination.grpc.pb.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "services/checkpoint_store/server.h"

namespace bdh::checkpoint_store {
namespace {

using testing::HasSubstr;
using Groups = v1::CoordinationService::Stub;
using Values = v1::KeyValueService::Stub;
using Records = v1::RunRecordService::Stub;

constexpr absl::Duration kLong = absl::Seconds(60);

class CoordinationServerTest : public testing::Test {
 protected:
  void SetUp() override { Start(/*max_calls=*/256); }
  void Start(int max_calls) {
    server_.reset();
    Server::Options options;
    options.listen.max_calls = max_calls;
    options.data_dir = folder_.path() + "/store";
    options.min_free_bytes = 0;
    auto server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    peer_ = std::make_unique<mesh::Peer>("bdh-checkpoint-store", server_->address(), "");
    groups_ = v1::CoordinationService::NewStub(peer_->channel());
    values_ = v1::KeyValueService::NewStub(peer_->channel());
    records_ = v1::RunRecordService::NewStub(peer_->channel());
  }

  absl::StatusOr<v1::RegisterWorkerResponse> Join(const std::string& worker, int workers) {
    v1::RegisterWorkerRequest request;
    request.set_group("runs/a");
    request.mutable_worker()->set_name(worker);
    request.mutable_worker()->set_address("10.0.0.1:7021");
    (*request.mutable_worker()->mutable_labels())["threads"] = "2";
    request.mutable_spec()->set_min_workers(workers);
    request.mutable_spec()->set_max_workers(workers);
    request.mutable_spec()->mutable_settle_duration()->set_nanos(1'000'000);
    request.mutable_spec()->mutable_lease_duration()->set_seconds(600);
    return peer_->Call(*groups_, &Groups::RegisterWorker, request, kLong);
  }
  absl::StatusOr<v1::AwaitGenerationResponse> Await(const std::string& lease,
                                                    absl::Duration timeout = kLong) {
    v1::AwaitGenerationRequest request;
    request.set_group("runs/a");
    request.set_lease(lease);
    return peer_->Call(*groups_, &Groups::AwaitGeneration, request, timeout);
  }
  absl::StatusOr<v1::SetValueResponse> Set(const std::string& key, const std::string& value,
                                           int64_t fence = 0) {
    v1::SetValueRequest request;
    request.set_namespace_("runs/a/generations/1");
    request.set_key(key);
    request.set_value(value);
    if (fence > 0) {
      request.mutable_fence()->set_group("runs/a");
      request.mutable_fence()->set_generation(fence);
    }
    return peer_->Call(*values_, &Values::SetValue, request, kLong);
  }
  v1::WaitForKeysRequest WaitFor(const std::string& key) {
    v1::WaitForKeysRequest request;
    request.set_namespace_("runs/a/generations/1");
    request.add_keys(key);
    return request;
  }
  absl::StatusOr<v1::WaitForKeysResponse> Wait(const std::string& key, absl::Duration timeout = kLong) {
    return peer_->Call(*values_, &Values::WaitForKeys, WaitFor(key), timeout);
  }
  // How many calls of `method` the daemon handles now; asked until it is `want`.
  void AwaitInFlight(const std::string& method, int want) {
    const std::string line = absl::StrFormat("bdh_rpc_in_flight{method=\"%s\"} %d\n", method, want);
    const absl::Time deadline = absl::Now() + kLong;
    while (server_->metrics().Serialize().find(line) == std::string::npos) {
      ASSERT_LT(absl::Now(), deadline) << line;
      std::this_thread::yield();
    }
  }

  TempDirectory folder_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<mesh::Peer> peer_;
  std::unique_ptr<Groups> groups_;
  std::unique_ptr<Values> values_;
  std::unique_ptr<Records> records_;
};

TEST_F(CoordinationServerTest, AHundredWorkersFindEachOtherAndMeet) {
  constexpr int kWorkers = 100;
  std::vector<std::thread> threads;
  for (int i = 0; i < kWorkers; ++i) {
    threads.emplace_back([&, i] {
      const auto joined = Join(absl::StrFormat("w%02d", i), kWorkers);
      ASSERT_TRUE(joined.ok()) << joined.status();
      EXPECT_EQ(joined->lease_duration().seconds(), 600);
      const auto place = Await(joined->lease());
      ASSERT_TRUE(place.ok()) << place.status();
      EXPECT_EQ(place->rank(), i);
      EXPECT_EQ(place->generation().members_size(), kWorkers);
      // The barrier of c10d: each adds one and waits for the last.
      v1::AddToValueRequest add;
      add.set_namespace_("runs/a/generations/1");
      add.set_key("arrived");
      add.set_amount(1);
      add.set_request_id(std::to_string(i));
      add.mutable_fence()->set_group("runs/a");
      add.mutable_fence()->set_generation(place->generation().number());
      const auto sum = peer_->Call(*values_, &Values::AddToValue, add, kLong);
      ASSERT_TRUE(sum.ok()) << sum.status();
      if (sum->value() == kWorkers) BDH_EXPECT_OK(Set("go", "1", place->generation().number()));
      BDH_EXPECT_OK(Wait("go"));
      v1::HeartbeatRequest beat;
      beat.set_group("runs/a");
      beat.set_lease(joined->lease());
      const auto heard = peer_->Call(*groups_, &Groups::Heartbeat, beat, kLong);
      ASSERT_TRUE(heard.ok()) << heard.status();
      EXPECT_EQ(heard->state(), v1::Group::STATE_FORMED);
      EXPECT_EQ(heard->generation(), 1);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(CoordinationServerTest, GroupsValuesAndFencesSurviveARestart) {
  BDH_ASSERT_OK(Join("w", 1));
  BDH_ASSERT_OK(Set("k", "v", 1));
  BDH_ASSERT_OK(Join("w", 1));
  EXPECT_EQ(Set("k", "stale", 1).status().code(), absl::StatusCode::kAborted);
  Start(256);
  EXPECT_EQ(Set("k", "stale", 1).status().code(), absl::StatusCode::kAborted);
  BDH_EXPECT_OK(Set("l", "w", 2));
  v1::GetValueRequest get;
  get.set_namespace_("runs/a/generations/1");
  get.set_key("k");
  BDH_ASSERT_OK_AND_ASSIGN(const auto value, peer_->Call(*values_, &Values::GetValue, get, kLong));
  EXPECT_EQ(value.value(), "v");
  v1::GetGroupRequest ask;
  ask.set_name("runs/a");
  BDH_ASSERT_OK_AND_ASSIGN(const auto got, peer_->Call(*groups_, &Groups::GetGroup, ask, kLong));
  EXPECT_EQ(got.group().state(), v1::Group::STATE_FORMED);
  EXPECT_EQ(got.group().generation().number(), 2);
  EXPECT_EQ(got.group().workers(0).labels().at("threads"), "2");
  EXPECT_EQ(got.group().spec().settle_duration().nanos(), 1'000'000);
  EXPECT_GT(got.group().generation().form_time().seconds(), 0);
  BDH_ASSERT_OK_AND_ASSIGN(const auto list,
                           peer_->Call(*groups_, &Groups::ListGroups, v1::ListGroupsRequest(), kLong));
  ASSERT_EQ(list.groups_size(), 1);
  EXPECT_EQ(list.groups(0).name(), "runs/a");
}

TEST_F(CoordinationServerTest, AWaitSaysWhatWasMissingBeforeItsClientGivesUp) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto joined, Join("w", 2));
  const auto place = Await(joined.lease(), absl::Milliseconds(400));
  EXPECT_EQ(place.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(place.status().message()), HasSubstr("1 of the 2 workers"));
  const auto keys = Wait("not there", absl::Milliseconds(400));
  EXPECT_EQ(keys.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(keys.status().message()), HasSubstr("'not there'"));
  v1::WaitForKeysRequest check = WaitFor("not there");
  check.set_only_check(true);
  BDH_ASSERT_OK_AND_ASSIGN(const auto checked, peer_->Call(*values_, &Values::WaitForKeys, check, kLong));
  EXPECT_FALSE(checked.all_present());
}

TEST_F(CoordinationServerTest, AWaitWhoseClientGoesAwayEnds) {
  const auto context = peer_->NewContext(kLong);
  std::thread client([&] {
    v1::WaitForKeysResponse response;
    EXPECT_EQ(values_->WaitForKeys(context.get(), WaitFor("k"), &response).error_code(),
              grpc::StatusCode::CANCELLED);
  });
  AwaitInFlight("WaitForKeys", 1);
  context->TryCancel();
  client.join();
  AwaitInFlight("WaitForKeys", 0);
}

TEST_F(CoordinationServerTest, WaitsEndWhenTheDaemonIsToldToStop) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto joined, Join("w", 2));
  auto place = std::async(std::launch::async, [&] { return Await(joined.lease()).status(); });
  auto keys = std::async(std::launch::async, [&] { return Wait("k").status(); });
  AwaitInFlight("AwaitGeneration", 1);
  AwaitInFlight("WaitForKeys", 1);
  server_->Drain(absl::InfiniteDuration());  // Would never return if they did not end.
  for (const absl::Status& status : {place.get(), keys.get()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  }
}

TEST_F(CoordinationServerTest, WaitsLeaveRoomForEverythingElse) {
  Start(/*max_calls=*/4);
  std::vector<std::future<absl::Status>> waits;
  for (int i = 0; i < 2; ++i) {
    waits.push_back(std::async(std::launch::async, [&] { return Wait("k").status(); }));
  }
  AwaitInFlight("WaitForKeys", 2);
  const auto refused = Wait("k");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("2 calls wait at once"));
  BDH_EXPECT_OK(Set("k", "v"));
  for (auto& wait : waits) BDH_EXPECT_OK(wait.get());
}

TEST_F(CoordinationServerTest, RunRecordsCarryWhatTheirWriterSaidAndTheirRevision) {
  BDH_ASSERT_OK(Join("w", 1));
  v1::PutRunRecordRequest put;
  v1::RunRecord& record = *put.mutable_record();
  record.mutable_run()->set_name("a");
  record.mutable_run()->mutable_progress()->set_step(7);
  record.set_config_yaml("train: {}\n");
  record.set_revision(99);
  (*record.mutable_labels())["team"] = "red";
  put.mutable_fence()->set_group("runs/a");
  put.mutable_fence()->set_generation(1);
  BDH_ASSERT_OK_AND_ASSIGN(const auto stored, peer_->Call(*records_, &Records::PutRunRecord, put, kLong));
  EXPECT_EQ(stored.record().revision(), 1);
  EXPECT_EQ(stored.record().generation(), 1);
  put.set_expected_revision(0);
  EXPECT_EQ(peer_->Call(*records_, &Records::PutRunRecord, put, kLong).status().code(),
            absl::StatusCode::kAborted);
  v1::GetRunRecordRequest get;
  get.set_run("a");
  BDH_ASSERT_OK_AND_ASSIGN(const auto got, peer_->Call(*records_, &Records::GetRunRecord, get, kLong));
  EXPECT_EQ(got.record().DebugString(), stored.record().DebugString());
  EXPECT_EQ(got.record().run().progress().step(), 7);
  v1::ListRunRecordsRequest list;
  (*list.mutable_labels())["team"] = "red";
  BDH_ASSERT_OK_AND_ASSIGN(const auto found, peer_->Call(*records_, &Records::ListRunRecords, list, kLong));
  EXPECT_EQ(found.records_size(), 1);
  (*list.mutable_labels())["team"] = "blue";
  BDH_ASSERT_OK_AND_ASSIGN(const auto none, peer_->Call(*records_, &Records::ListRunRecords, list, kLong));
  EXPECT_EQ(none.records_size(), 0);
  v1::DeleteRunRecordRequest remove;
  remove.set_run("a");
  EXPECT_EQ(peer_->Call(*records_, &Records::DeleteRunRecord, remove, kLong).status().code(),
            absl::StatusCode::kFailedPrecondition)
      << "its worker lives";
}

}  // namespace
}  // namespace bdh::checkpoint_store
