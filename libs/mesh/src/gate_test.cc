// What the gate and the channels around it do to real calls: who may call what, how many at once, which calls
// are repeated, which token counts while the file changes, and whose trace id the log lines carry.

#include "bdh/mesh/gate.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/mesh/peer.h"
#include "bdh/mesh/server.h"
#include "bdh/mesh/token_file.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "bdh/v1/trainer.grpc.pb.h"
#include "methods.h"
#include "permissions.h"

namespace bdh::mesh {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

using Stub = v1::TrainerService::Stub;

// A trainer of which a test decides what it answers.
class TestService final : public v1::TrainerService::Service {
 public:
  explicit TestService(const Gate& gate) : gate_(gate) {}

  grpc::Status ListRuns(grpc::ServerContext* context, const v1::ListRunsRequest*,
                        v1::ListRunsResponse*) override {
    return gate_.Run(*context, "ListRuns", [&] { return Answer(); });
  }
  grpc::Status StopRun(grpc::ServerContext* context, const v1::StopRunRequest*,
                       v1::StopRunResponse*) override {
    return gate_.Run(*context, "StopRun", [&] { return Answer(); });
  }
  grpc::Status GetRun(grpc::ServerContext* context, const v1::GetRunRequest*, v1::GetRunResponse*) override {
    return gate_.Run(*context, "GetRun", [&] {
      ++waiting;
      while (!released) absl::SleepFor(absl::Milliseconds(1));
      return absl::OkStatus();
    });
  }

  std::atomic<int> attempts{0};
  std::atomic<int> failures_left{0};
  std::atomic<int> waiting{0};
  std::atomic<bool> released{false};

 private:
  absl::Status Answer() {
    ++attempts;
    trace_id = telemetry::Trace::Current().ids.trace_id;
    if (failures_left-- > 0) return absl::UnavailableError("not now");
    return absl::OkStatus();
  }

 public:
  std::string trace_id;

 private:
  const Gate& gate_;
};

class GateTest : public ::testing::Test {
 protected:
  ~GateTest() override {
    if (service_ != nullptr) service_->released = true;
  }

  void Serve(ListenOptions listen) {
    gate_ = std::make_unique<Gate>("bdh-trainer-worker", listen, metrics_);
    service_ = std::make_unique<TestService>(*gate_);
    auto server = Server::Start({.daemon = "bdh-trainer-worker",
                                 .listen = listen,
                                 .services = {service_.get()},
                                 .gate = gate_.get(),
                                 .metrics = &metrics_});
    BDH_ASSERT_OK(server);
    server_ = *std::move(server);
  }
  Peer PeerWith(const Credentials& credentials) const {
    return Peer("bdh-trainer-worker", server_->address(), credentials);
  }
  absl::Status ListRuns(const Peer& peer) {
    const auto stub = v1::TrainerService::NewStub(peer.channel());
    return peer.Call(*stub, &Stub::ListRuns, v1::ListRunsRequest(), absl::Seconds(10)).status();
  }
  absl::Status StopRun(const Peer& peer) {
    const auto stub = v1::TrainerService::NewStub(peer.channel());
    return peer.Call(*stub, &Stub::StopRun, v1::StopRunRequest(), absl::Seconds(10)).status();
  }

  std::string WriteTokens(const std::string& text) {
    const std::string file = folder_.path() + "/tokens";
    BDH_EXPECT_OK(WriteFileAtomically(file, text, 0600));
    return file;
  }
  static Credentials FromFile(const std::string& file, const std::string& name) {
    v1::MeshConfig mesh;
    mesh.set_token_file(file);
    auto credentials = Credentials::Load(mesh, name);
    BDH_EXPECT_OK(credentials);
    return credentials.ok() ? *credentials : Credentials();
  }
  template <class Condition>
  static void Await(Condition condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (!condition() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(10));
    EXPECT_TRUE(condition());
  }

  TempDirectory folder_;
  telemetry::Metrics metrics_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<TestService> service_;
  std::unique_ptr<Server> server_;
};

TEST_F(GateTest, ACallMoreThanTheLimitIsRefusedInASentenceAndTheStatusIsStillTold) {
  Serve({.max_calls = 2});
  const Peer peer = PeerWith("");
  std::vector<std::thread> callers;
  for (int i = 0; i < 2; ++i) {
    callers.emplace_back([&] {
      const auto stub = v1::TrainerService::NewStub(peer.channel());
      BDH_EXPECT_OK(peer.Call(*stub, &Stub::GetRun, v1::GetRunRequest(), absl::Minutes(1)));
    });
  }
  Await([&] { return service_->waiting == 2; });
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("bdh_rpc_in_flight{method=\"GetRun\"} 2"));
  const absl::Status refused = ListRuns(peer);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("mesh.limits.max_calls"));
  const auto stub = v1::MeshService::NewStub(peer.channel());
  BDH_EXPECT_OK(
      peer.Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), absl::Seconds(10)));
  service_->released = true;
  for (auto& caller : callers) caller.join();
  BDH_EXPECT_OK(ListRuns(peer));
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("bdh_rpc_in_flight{method=\"GetRun\"} 0"));
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("code=\"RESOURCE_EXHAUSTED\",method=\"ListRuns\"} 1"));
}

TEST_F(GateTest, AMessageLargerThanTheLimitIsRefused) {
  Serve({.max_message_bytes = 1000});
  const Peer peer = PeerWith("");
  const auto stub = v1::TrainerService::NewStub(peer.channel());
  v1::StopRunRequest request;
  request.set_name(std::string(2000, 'x'));
  EXPECT_EQ(peer.Call(*stub, &Stub::StopRun, request, absl::Seconds(10)).status().code(),
            absl::StatusCode::kResourceExhausted);
  BDH_EXPECT_OK(StopRun(peer));
}

TEST_F(GateTest, OnlyCallsThatMayBeRepeatedAreRepeated) {
  Serve({});
  const Peer peer = PeerWith("");
  service_->failures_left = 2;
  BDH_EXPECT_OK(ListRuns(peer));
  EXPECT_EQ(service_->attempts, 3);
  service_->attempts = 0;
  service_->failures_left = 1;
  EXPECT_EQ(StopRun(peer).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(service_->attempts, 1);
}

TEST_F(GateTest, WhoFailsAllTheTimeIsNotAskedThreeTimesAsOften) {
  Serve({});
  const Peer peer = PeerWith("");
  service_->failures_left = 1000;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(ListRuns(peer).code(), absl::StatusCode::kUnavailable);
  EXPECT_LE(service_->attempts, 16) << "the budget is used up after a few";
}

TEST_F(GateTest, TheCallersTraceIsTheHandlersAndTheLogs) {
  Serve({.slow_call = absl::ZeroDuration()});
  const Peer peer = PeerWith("");
  const auto trace = telemetry::Trace::New();
  ::testing::internal::CaptureStderr();
  {
    const telemetry::ScopedTrace scope(trace);
    BDH_EXPECT_OK(ListRuns(peer));
  }
  server_->Shutdown(absl::Seconds(10));
  EXPECT_EQ(service_->trace_id, trace.ids.trace_id);
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("slow call method=ListRuns code=OK"));
  EXPECT_THAT(log, HasSubstr("trace=" + trace.ids.trace_id));
}

TEST_F(GateTest, CallsAreLoggedWhenTheirModuleIsAtDebug) {
  Serve({});
  const Peer peer = PeerWith("");
  const auto stub = v1::MeshService::NewStub(peer.channel());
  const auto set = [&](const std::string& levels) {
    v1::SetLogLevelsRequest request;
    request.set_levels(levels);
    return peer.Call(*stub, &v1::MeshService::Stub::SetLogLevels, request, absl::Seconds(10));
  };
  const auto log_of_a_call = [&] {
    ::testing::internal::CaptureStderr();
    BDH_EXPECT_OK(ListRuns(peer));
    BDH_EXPECT_OK(set(""));  // The line of the call before is written by now.
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(log_of_a_call(), Not(HasSubstr("ListRuns")));
  BDH_ASSERT_OK_AND_ASSIGN(const auto levels, set("info,gate=debug"));
  EXPECT_EQ(levels.levels(), "info,gate=debug");
  EXPECT_THAT(log_of_a_call(), HasSubstr("call method=ListRuns code=OK"));
  EXPECT_EQ(set("loud").status().code(), absl::StatusCode::kInvalidArgument);
  BDH_EXPECT_OK(set("info"));
}

TEST_F(GateTest, SeveralTokensAreAcceptedAndTheFirstIsShown) {
  const std::string file = WriteTokens("# of the mesh\nfirst\n\nsecond\n");
  Serve({.credentials = FromFile(file, "bdh-trainer-worker")});
  EXPECT_EQ(FromFile(file, "bdhctl").token(), "first");
  BDH_EXPECT_OK(ListRuns(PeerWith("first")));
  BDH_EXPECT_OK(ListRuns(PeerWith("second")));
  EXPECT_EQ(ListRuns(PeerWith("# of the mesh")).code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(GateTest, ATokenFileThatChangesIsReadAgainAndABadOneIsNot) {
  const std::string file = WriteTokens("old\n");
  Serve({.credentials = FromFile(file, "bdh-trainer-worker")});
  const Credentials mine = FromFile(file, "bdhctl");
  WriteTokens("new\nold\n");
  Await([&] { return ListRuns(PeerWith("new")).ok(); });
  BDH_EXPECT_OK(ListRuns(PeerWith("old")));
  Await([&] { return mine.token() == "new"; });
  WriteTokens("new\n");
  Await([&] { return absl::IsUnauthenticated(ListRuns(PeerWith("old"))); });
  BDH_EXPECT_OK(ListRuns(PeerWith(mine)));
  ::testing::internal::CaptureStderr();
  WriteTokens("three words here\n");
  std::string log;
  Await([&] {
    BDH_EXPECT_OK(ListRuns(PeerWith("new")));
    log += ::testing::internal::GetCapturedStderr();
    ::testing::internal::CaptureStderr();
    return log.find("the tokens of before hold") != std::string::npos;
  });
  ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, Not(HasSubstr("three"))) << "a file of secrets is not quoted";
}

TEST_F(GateTest, WhoHasANameMayDoWhatItMayAndNoMore) {
  const std::string file =
      WriteTokens("shared\nbdh-gateway of-the-gateway\nbdhctl of-the-tool\nnotebook of-the-notebook\n");
  Serve({.credentials = FromFile(file, "bdh-trainer-worker")});
  EXPECT_EQ(FromFile(file, "bdh-gateway").token(), "of-the-gateway");
  EXPECT_EQ(FromFile(file, "bdh-inference").token(), "shared");
  BDH_EXPECT_OK(ListRuns(PeerWith("of-the-tool")));
  BDH_EXPECT_OK(ListRuns(PeerWith("shared")));
  for (const char* token : {"of-the-gateway", "of-the-notebook"}) {
    const Peer peer = PeerWith(token);
    const absl::Status refused = ListRuns(peer);
    EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(std::string(refused.message()), HasSubstr("may not call ListRuns; mesh.permissions"));
    const auto stub = v1::MeshService::NewStub(peer.channel());
    BDH_EXPECT_OK(
        peer.Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), absl::Seconds(10)));
  }
}

TEST_F(GateTest, TheConfigurationSaysWhoMay) {
  v1::MeshConfig mesh;
  mesh.set_token_file(WriteTokens("bdhctl tool\nnotebook note\n"));
  mesh.add_permissions("notebook: TrainerService.*");
  mesh.add_permissions("bdhctl: Generate");
  BDH_ASSERT_OK_AND_ASSIGN(const auto credentials, Credentials::Load(mesh, "bdh-trainer-worker"));
  Serve({.credentials = credentials});
  BDH_EXPECT_OK(ListRuns(PeerWith("note")));
  EXPECT_EQ(ListRuns(PeerWith("tool")).code(), absl::StatusCode::kPermissionDenied) << "its row is replaced";
}

TEST(Permissions, TheDefaultsAreWhatEachNeeds) {
  const Permissions defaults;
  BDH_EXPECT_OK(defaults.Check("bdh-gateway", "Generate"));
  BDH_EXPECT_OK(defaults.Check("bdh-trainer-worker", "PutCheckpoint"));
  BDH_EXPECT_OK(defaults.Check("bdhctl", "PutCheckpoint"));
  BDH_EXPECT_OK(defaults.Check("", "PutCheckpoint"));  // The mesh itself.
  BDH_EXPECT_OK(defaults.Check("somebody", "GetStatus"));
  for (const char* caller : {"bdh-gateway", "bdh-inference", "bdh-data-loader", "somebody"}) {
    EXPECT_EQ(defaults.Check(caller, "PutCheckpoint").code(), absl::StatusCode::kPermissionDenied) << caller;
    EXPECT_EQ(defaults.Check(caller, "SetLogLevels").code(), absl::StatusCode::kPermissionDenied) << caller;
  }
}

TEST(Permissions, ARowThatIsWrongIsASentence) {
  for (const char* bad : {"", "notebook", ": Generate", "notebook: Genrate", "notebook: NoService.*"}) {
    v1::MeshConfig mesh;
    mesh.add_permissions(bad);
    const auto status = Credentials::Load(mesh, "bdh-inference").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("mesh.permissions")) << bad;
  }
}

TEST(Methods, AllServicesOfTheProtosAreKnown) {
  std::set<std::string> known, written;
  for (const Method& method : AllMethods()) known.insert(method.service);
  for (const auto& file : std::filesystem::directory_iterator(BDH_SOURCE_DIR "/protos/bdh/v1")) {
    std::ifstream text(file.path());
    for (std::string line; std::getline(text, line);) {
      if (line.starts_with("service ")) written.insert("bdh.v1." + line.substr(8, line.find(' ', 8) - 8));
    }
  }
  EXPECT_EQ(known, written);
}

TEST(Methods, NoTwoHaveOneName) {
  std::set<std::string> names;
  for (const Method& method : AllMethods()) EXPECT_TRUE(names.insert(method.name).second) << method.name;
}

}  // namespace
}  // namespace bdh::mesh
