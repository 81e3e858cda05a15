// kill -9 of the real daemon during lease traffic: generations go up and never back, a write of one that is
// over is refused after every restart, and what was answered with OK is there.

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/coordination.grpc.pb.h"
#include "tests/faults/store_daemon.h"

namespace bdh::e2e {
namespace {

using Groups = v1::CoordinationService::Stub;
using Values = v1::KeyValueService::Stub;

constexpr int kKills = 5;
constexpr absl::Duration kCall = absl::Seconds(20);

// A store that is killed and started again in its folder.
class Daemon {
 public:
  explicit Daemon(const std::string& folder) : folder_(folder) { Start(); }

  void Start() {
    store_ = std::make_unique<StoreDaemon>(folder_);
    groups_ = v1::CoordinationService::NewStub(store_->peer().channel());
    values_ = v1::KeyValueService::NewStub(store_->peer().channel());
  }
  void Kill() { store_->Kill(); }

  // The generation that forms when `worker` comes (again); 0 where the daemon is gone.
  int64_t Join(const std::string& worker) {
    v1::RegisterWorkerRequest join;
    join.set_group("runs/a");
    join.mutable_worker()->set_name(worker);
    join.mutable_spec()->set_min_workers(2);
    join.mutable_spec()->set_max_workers(2);
    join.mutable_spec()->mutable_lease_duration()->set_seconds(600);
    const auto joined = store_->peer().Call(*groups_, &Groups::RegisterWorker, join, kCall);
    if (!joined.ok()) return 0;
    v1::AwaitGenerationRequest await;
    await.set_group("runs/a");
    await.set_lease(joined->lease());
    const auto place = store_->peer().Call(*groups_, &Groups::AwaitGeneration, await, kCall);
    return place.ok() ? place->generation().number() : 0;
  }
  absl::Status Write(int64_t generation, const std::string& value) {
    v1::SetValueRequest set;
    set.set_namespace_("n");
    set.set_key("last");
    set.set_value(value);
    set.mutable_fence()->set_group("runs/a");
    set.mutable_fence()->set_generation(generation);
    return store_->peer().Call(*values_, &Values::SetValue, set, kCall).status();
  }
  int64_t Newest() {
    v1::GetGroupRequest ask;
    ask.set_name("runs/a");
    const auto got = store_->peer().Call(*groups_, &Groups::GetGroup, ask, kCall);
    EXPECT_TRUE(got.ok()) << got.status();
    return got.ok() ? got->group().generation().number() : -1;
  }

 private:
  const std::string folder_;
  std::unique_ptr<StoreDaemon> store_;
  std::unique_ptr<Groups> groups_;
  std::unique_ptr<Values> values_;
};

TEST(CoordinationFaults, GenerationsGoUpWhateverIsKilled) {
  const TempDirectory folder;
  Daemon daemon(folder.path());
  std::mt19937 random(3);
  int64_t newest = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    std::atomic<int64_t> told{newest}, joins{0};
    std::atomic<bool> stop{false};
    std::vector<std::thread> workers;
    for (const char* name : {"a", "b"}) {
      workers.emplace_back([&, name] {
        while (!stop) {
          const int64_t generation = daemon.Join(name);
          if (generation == 0) continue;
          EXPECT_GE(generation, newest);
          int64_t before = told;
          while (before < generation && !told.compare_exchange_weak(before, generation)) {
          }
          (void)daemon.Write(generation, absl::StrFormat("%d", generation));
          ++joins;
        }
      });
    }
    const int64_t enough = 3 + static_cast<int64_t>(random() % 20);
    while (joins < enough) absl::SleepFor(absl::Milliseconds(1));
    daemon.Kill();
    stop = true;
    for (std::thread& worker : workers) worker.join();
    daemon.Start();
    EXPECT_GE(daemon.Newest(), told) << "a generation that somebody was told of is gone";
    newest = daemon.Newest();
    EXPECT_EQ(daemon.Write(newest - 1, "stale").code(), absl::StatusCode::kAborted);
    BDH_EXPECT_OK(daemon.Write(newest, "fresh"));
  }
}

}  // namespace
}  // namespace bdh::e2e
