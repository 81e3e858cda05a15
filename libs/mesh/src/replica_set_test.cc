// Several real servers behind one ReplicaSet: keys stay where they are, move when their server dies and come
// back with it; who says that it does not serve is not asked; names are resolved again; who keeps failing has
// a rest.

#include "bdh/mesh/replica_set.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "bdh/mesh/server.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/v1/mesh.grpc.pb.h"

namespace bdh::mesh {
namespace {

using ::testing::HasSubstr;

constexpr char kService[] = "bdh.v1.MeshService";
constexpr int kKeys = 200;

std::string Key(int i) {
  return absl::StrFormat("session-%d", i);
}

class ReplicaSetTest : public ::testing::Test {
 protected:
  // A server, at the same address as before if it had one.
  void StartServer(const std::string& address = "127.0.0.1:0") {
    const ListenOptions listen{.address = address, .admin_address = "", .credentials = "token"};
    auto gate = std::make_unique<Gate>("bdh-test", listen, metrics_);
    auto server =
        Server::Start({.daemon = "bdh-test", .listen = listen, .gate = gate.get(), .metrics = &metrics_});
    BDH_ASSERT_OK(server);
    (*server)->SetReady(true);
    const std::string at = (*server)->address();
    servers_[at] = {std::move(gate), *std::move(server)};
  }
  void StartServers(int count) {
    for (int i = 0; i < count; ++i) StartServer();
  }
  std::string Target() const {
    return absl::StrJoin(servers_, ",", [](std::string* out, const auto& entry) { *out += entry.first; });
  }
  void Connect(ReplicaSet::Options options = {}) {
    options.credentials = "token";
    if (options.health_service.empty()) options.health_service = kService;
    replicas_ = std::make_unique<ReplicaSet>("bdh-test", Target(), options);
    AwaitWell(servers_.size());
  }

  template <class Condition>
  static void Await(Condition condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (!condition() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
    EXPECT_TRUE(condition());
  }
  size_t Well() const {
    const auto states = replicas_->States();
    return static_cast<size_t>(
        std::count_if(states.begin(), states.end(), [](const auto& s) { return s.well; }));
  }
  void AwaitWell(size_t count) {
    Await([&] { return Well() == count; });
  }

  std::string Owner(const std::string& key) {
    const auto chosen = replicas_->Choose(key, Affinity::kStrict);
    return chosen.ok() ? (*chosen)->address() : chosen.status().ToString();
  }
  std::map<std::string, std::string> Owners() {
    std::map<std::string, std::string> owners;
    for (int i = 0; i < kKeys; ++i) owners[Key(i)] = Owner(Key(i));
    return owners;
  }
  // The pid-independent truth of who answered: the address in its status.
  std::string AskThrough(const std::string& key) {
    const auto chosen = replicas_->Choose(key, Affinity::kStrict);
    BDH_EXPECT_OK(chosen);
    const auto stub = v1::MeshService::NewStub((*chosen)->channel());
    const auto context = replicas_->peer().NewContext(absl::Seconds(10));
    v1::GetStatusResponse response;
    const grpc::Status status = stub->GetStatus(context.get(), {}, &response);
    (*chosen)->Report(status);
    return status.ok() ? response.address() : replicas_->peer().Outcome(status).ToString();
  }

  struct Running {
    std::unique_ptr<Gate> gate;
    std::unique_ptr<Server> server;
  };
  telemetry::Metrics metrics_;
  std::map<std::string, Running> servers_;
  std::unique_ptr<ReplicaSet> replicas_;
};

TEST_F(ReplicaSetTest, AKeyStaysWithItsReplicaAndAllHaveAShare) {
  StartServers(3);
  Connect();
  const auto owners = Owners();
  EXPECT_EQ(Owners(), owners);
  std::map<std::string, int> share;
  for (const auto& [key, owner] : owners) ++share[owner];
  ASSERT_EQ(share.size(), 3u);
  for (const auto& [owner, keys] : share) EXPECT_GT(keys, kKeys / 6) << owner;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(AskThrough(Key(i)), owners.at(Key(i)));
}

TEST_F(ReplicaSetTest, TheLossOfOneMovesItsKeysOnlyAndTheyComeBack) {
  StartServers(3);
  Connect();
  const auto before = Owners();
  const std::string lost = before.at(Key(0));
  servers_.erase(lost);
  AwaitWell(2);
  const auto meanwhile = Owners();
  for (const auto& [key, owner] : before) {
    if (owner == lost) {
      EXPECT_NE(meanwhile.at(key), lost) << key;
    } else {
      EXPECT_EQ(meanwhile.at(key), owner) << key;
    }
  }
  EXPECT_EQ(AskThrough(Key(0)), meanwhile.at(Key(0)));
  StartServer(lost);
  AwaitWell(3);
  EXPECT_EQ(Owners(), before);
}

TEST_F(ReplicaSetTest, WhoSaysThatItDoesNotServeIsNotChosen) {
  StartServers(2);
  Connect();
  const auto before = Owners();
  const std::string sick = before.at(Key(0));
  servers_.at(sick).server->SetReady(false);
  AwaitWell(1);
  for (const auto& [key, owner] : Owners()) EXPECT_NE(owner, sick) << key;
  servers_.at(sick).server->SetReady(true);
  AwaitWell(2);
  EXPECT_EQ(Owners(), before);
}

TEST_F(ReplicaSetTest, NamesAreResolvedAgain) {
  StartServers(2);
  const std::string first = servers_.begin()->first, second = servers_.rbegin()->first;
  Mutex mutex;
  std::vector<Endpoint> answer{{first, "bdh-test"}};
  ReplicaSet::Options options;
  options.resolve_every = absl::Milliseconds(10);
  options.health_service = kService;
  options.credentials = "token";
  options.resolve = [&](std::string_view target) -> absl::StatusOr<std::vector<Endpoint>> {
    EXPECT_EQ(target, "dns:///inference:7041");
    MutexLock lock(mutex);
    if (answer.empty()) return absl::UnavailableError("no such name");
    return answer;
  };
  replicas_ = std::make_unique<ReplicaSet>("bdh-test", "dns:///inference:7041", options);
  AwaitWell(1);
  EXPECT_EQ(Owner("key"), first);
  const auto set = [&](std::vector<Endpoint> endpoints) {
    MutexLock lock(mutex);
    answer = std::move(endpoints);
  };
  set({{first, "bdh-test"}, {second, "bdh-test"}});
  AwaitWell(2);
  set({{second, "bdh-test"}});
  Await([&] { return replicas_->States().size() == 1; });
  EXPECT_EQ(Owner("key"), second);
  set({});
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_EQ(AskThrough("key"), second) << "a name server that is away takes no replica with it";
}

TEST_F(ReplicaSetTest, WhoKeepsFailingIsLeftOutForAWhileAndHeardAgain) {
  StartServers(2);
  Connect({.failures_to_eject = 3, .first_ejection = absl::Milliseconds(300)});
  const std::string owner = Owner("key");
  const auto fail = [&](int times) {
    const auto chosen = replicas_->Choose("key", Affinity::kStrict);
    BDH_ASSERT_OK(chosen);
    for (int i = 0; i < times; ++i) (*chosen)->Report({grpc::StatusCode::INTERNAL, "broken"});
  };
  fail(2);
  EXPECT_EQ(Owner("key"), owner) << "not yet";
  const auto chosen = replicas_->Choose("key", Affinity::kStrict);
  (*chosen)->Report({grpc::StatusCode::NOT_FOUND, "no such model"});
  fail(2);
  EXPECT_EQ(Owner("key"), owner) << "an answer that is the caller's own fault clears it";
  fail(3);
  EXPECT_NE(Owner("key"), owner);
  Await([&] { return Owner("key") == owner; });
}

TEST_F(ReplicaSetTest, TheLastOneIsAskedEvenIfItFails) {
  StartServers(1);
  Connect({.failures_to_eject = 1, .first_ejection = absl::Hours(1)});
  const auto chosen = replicas_->Choose("key", Affinity::kStrict);
  (*chosen)->Report({grpc::StatusCode::INTERNAL, "broken"});
  EXPECT_TRUE(replicas_->States().at(0).ejected);
  EXPECT_EQ(AskThrough("key"), servers_.begin()->first);
}

TEST_F(ReplicaSetTest, SpreadCallsGoToTheNextOneWhenTheirsHasMuchToDo) {
  StartServers(2);
  Connect();
  std::map<std::string, int> calls;
  std::vector<std::shared_ptr<ReplicaSet::Replica>> held;
  for (int i = 0; i < 40; ++i) {
    auto chosen = replicas_->Choose("one popular prompt", Affinity::kSpread);
    BDH_ASSERT_OK(chosen);
    ++calls[(*chosen)->address()];
    held.push_back(*std::move(chosen));
  }
  ASSERT_EQ(calls.size(), 2u);
  for (const auto& [address, count] : calls) EXPECT_GE(count, 12) << address;
  held.clear();
  EXPECT_EQ(replicas_->States().at(0).calls + replicas_->States().at(1).calls, 0);
}

TEST_F(ReplicaSetTest, NobodyThereIsASentence) {
  StartServers(1);
  const std::string address = servers_.begin()->first;
  servers_.clear();
  replicas_ = std::make_unique<ReplicaSet>("bdh-test", address, ReplicaSet::Options{});
  EXPECT_THAT(AskThrough("key"), HasSubstr(absl::StrFormat("bdh-test at %s does not answer", address)));
  replicas_ = std::make_unique<ReplicaSet>(
      "bdh-test", "nowhere:1",
      ReplicaSet::Options{.resolve = [](std::string_view) -> absl::StatusOr<std::vector<Endpoint>> {
        return absl::UnavailableError("nowhere: no such name");
      }});
  EXPECT_THAT(Owner("key"), HasSubstr("find bdh-test at nowhere:1: nowhere: no such name"));
}

TEST(ResolveTarget, TakesListsAndNames) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto list, ResolveTarget("127.0.0.2:7041,127.0.0.1:7041"));
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].address, "127.0.0.1:7041");
  BDH_ASSERT_OK_AND_ASSIGN(const auto scheme, ResolveTarget("ipv4:127.0.0.2:7041,127.0.0.1:7041"));
  EXPECT_EQ(scheme, list);
  BDH_ASSERT_OK_AND_ASSIGN(const auto name, ResolveTarget("dns:///localhost:7041"));
  ASSERT_FALSE(name.empty());
  EXPECT_EQ(name[0].host, "localhost");
  EXPECT_THAT(name[0].address, ::testing::EndsWith(":7041"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto some, ResolveTarget("no-such-host.invalid:1,127.0.0.1:2"));
  EXPECT_EQ(some.size(), 1u) << "one name that is gone does not take the others with it";
  EXPECT_EQ(ResolveTarget("127.0.0.1").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace bdh::mesh
