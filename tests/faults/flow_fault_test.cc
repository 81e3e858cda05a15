// text -> train -> store -> inference -> HTTP, while each daemon and the supervisor are killed with SIGKILL
// in turn: the flow completes, what was acknowledged is there, and the numbers are those of a run that nobody
// disturbed. Then a store that stays away, and disks that take nothing.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <optional>
#include <set>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/testing/temp_directory.h"
#include "tests/e2e/http_client.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

constexpr absl::Duration kPatience = absl::Seconds(90);

bool Await(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(30));
  }
  return true;
}

std::string SomeText(size_t bytes) {
  constexpr const char* kWords[] = {"the",    "river", "runs",  "over", "old",
                                    "stones", "and",   "sings", "to",   "trees"};
  std::string text;
  for (uint32_t random = 1; text.size() < bytes;) {
    random = random * 1664525 + 1013904223;
    text += kWords[(random >> 16) % std::size(kWords)];
    text += " ";
  }
  return text;
}

class FlowFault : public ::testing::Test {
 protected:
  FlowFault() {
    std::ofstream(config_) << "model: {n_layer: 2, n_embd: 32, n_head: 2, mlp_internal_dim_multiplier: 8}\n"
                              "train: {max_steps: 300, batch_size: 4, block_size: 32, eval_interval: 50,\n"
                              "        eval_batches: 2, checkpoint_interval: 10, log_interval: 7}\n";
  }

  // As a script would: what is refused or cut off for now is asked for again.
  Outcome UntilOk(const std::vector<std::string>& arguments, const std::string& input = "") {
    Outcome outcome;
    EXPECT_TRUE(Await([&] { return (outcome = mesh_.Do(arguments, input)).exit_code == 0; })) << outcome.err;
    return outcome;
  }
  pid_t PidOf(const std::string& daemon) { return mesh_.Daemon(daemon).value("pid", 0); }
  void Kill(const std::string& daemon) {
    pid_t pid = 0;
    ASSERT_TRUE(Await([&] { return (pid = PidOf(daemon)) > 0; })) << daemon;
    ASSERT_EQ(kill(pid, SIGKILL), 0);
  }
  Json Run(const std::string& name) {
    const Json list = mesh_.OkJson({"train", "ls"});
    for (const Json& run : list.at("runs")) {
      if (run.at("name") == name) return run;
    }
    return Json::object();
  }
  std::set<std::string> Checkpoints(const std::string& run) {
    const Outcome outcome = mesh_.Do({"ckpt", "ls", "--run", run, "--json"});
    const Json list = Json::parse(outcome.out, nullptr, /*allow_exceptions=*/false);
    std::set<std::string> names;
    if (outcome.exit_code != 0 || !list.is_object()) return names;
    for (const Json& checkpoint : list.at("checkpoints"))
      names.insert(checkpoint.at("name").get<std::string>());
    return names;
  }
  // Waits until the run has a checkpoint more than there were, and adds all to what was acknowledged.
  void AwaitProgress(const std::string& run) {
    const size_t before = acknowledged_.size();
    EXPECT_TRUE(Await([&] {
      acknowledged_.merge(Checkpoints(run));
      return acknowledged_.size() > before;
    }));
  }
  std::string Complete(const std::string& url) {
    const auto response =
        Post(url + "/v1/completions",
             R"({"model": "river", "prompt": "the river ", "max_tokens": 24, "temperature": 0})");
    if (!response.ok() || response->status != 200) return "";
    return Json::parse(response->body).at("choices").at(0).at("text").get<std::string>();
  }

  TempDirectory folder_;
  const std::string config_ = folder_.path() + "/tiny.yaml";
  MeshDriver mesh_{folder_.path()};
  std::set<std::string> acknowledged_;
};

TEST_F(FlowFault, EachDaemonAndTheSupervisorAreKilledInTurnAndTheFlowCompletes) {
  ASSERT_EQ(mesh_.Up().exit_code, 0);
  const std::string text = SomeText(3'000'000);
  {
    Subprocess add(mesh_.Bdhctl({"data", "add", "rivers", "-"}, text));
    Kill("bdh-data-loader");
    add.Wait(kPatience);  // However it went for this one.
  }
  UntilOk({"data", "add", "rivers", "-"}, text);
  const Json dataset = mesh_.OkJson({"data", "ls"}).at("datasets").at(0);
  EXPECT_EQ(dataset.at("bytes_in"), text.size());

  UntilOk({"train", "start", "--dataset", "rivers", "--config", config_, "--name", "calm"});
  UntilOk({"train", "watch", "calm"});
  UntilOk(
      {"train", "start", "--dataset", "rivers", "--config", config_, "--name", "rough", "--tag", "ready"});
  for (const char* daemon :
       {"bdh-trainer-worker", "bdh-checkpoint-store", "bdh-data-loader", "bdh-inference"}) {
    AwaitProgress("rough");
    Kill(daemon);
  }
  AwaitProgress("rough");
  const pid_t supervisor = mesh_.Processes().at(0);
  ASSERT_EQ(kill(supervisor, SIGKILL), 0);
  const Outcome up = mesh_.Up({"--json"});
  ASSERT_EQ(up.exit_code, 0) << up.err;
  const std::string url = Json::parse(up.out).at("url");
  UntilOk({"train", "watch", "rough"});
  const Json rough = Run("rough"), calm = Run("calm");
  EXPECT_EQ(rough.at("state"), "finished");
  EXPECT_EQ(rough.at("progress").at("train_loss"), calm.at("progress").at("train_loss"));
  EXPECT_EQ(rough.at("progress").at("validation_loss"), calm.at("progress").at("validation_loss"));
  EXPECT_THAT(Checkpoints("rough"), IsSupersetOf(acknowledged_));

  UntilOk({"models", "load", "ready", "--id", "river"});
  const std::string answer = Complete(url);
  EXPECT_FALSE(answer.empty());
  for (const char* daemon : {"bdh-inference", "bdh-gateway", "bdh-checkpoint-store"}) {
    Kill(daemon);
    EXPECT_TRUE(Await([&] { return Complete(url) == answer; })) << daemon;
  }
  ASSERT_TRUE(mesh_.WaitUntilHealthy());
  EXPECT_THAT(Checkpoints("rough"), IsSupersetOf(acknowledged_));
}

TEST_F(FlowFault, ARunWaitsForAStoreThatIsAwayThenKeepsItsStateAndGoesOnWhenItIsBack) {
  // The store as a mesh of its own, so that it can be down while the others are up.
  const TempDirectory store_folder;
  const MeshDriver store(store_folder.path());
  ASSERT_EQ(store.Up({"--only", "store"}).exit_code, 0);
  const std::string address = store.Daemon("bdh-checkpoint-store").at("address");
  const std::string token = "mesh.token_file=" + store.data() + "/token";
  ASSERT_EQ(mesh_
                .Up({"--only", "loader,trainer", "--set", "mesh.checkpoint_store=" + address, "--set", token,
                     "--set", "trainer_worker.patience_seconds=0.5"})
                .exit_code,
            0);
  mesh_.Ok({"data", "add", "rivers", "-"}, SomeText(100'000));
  mesh_.Ok({"train", "start", "--dataset", "rivers", "--config", config_, "--name", "waits"});
  AwaitProgress("waits");
  ASSERT_EQ(store.Do({"down"}).exit_code, 0);
  const Outcome watched = mesh_.Do({"train", "watch", "waits"});
  EXPECT_EQ(watched.exit_code, 1);
  EXPECT_THAT(watched.err, HasSubstr("bdh-checkpoint-store at " + address + " does not answer"));
  EXPECT_THAT(watched.err,
              HasSubstr("it is kept in " + mesh_.data() + "/trainer-worker/kept/waits.safetensors"));
  EXPECT_EQ(Run("waits").at("state"), "stopped");
  ASSERT_EQ(store.Up({"--only", "store", "--set", "checkpoint_store.listen=" + address}).exit_code, 0);
  EXPECT_TRUE(Await([&] { return Run("waits").at("state") == "finished"; })) << Run("waits").dump(2);
  EXPECT_EQ(Run("waits").at("checkpoint"), "runs/waits/steps/300");
  EXPECT_THAT(Checkpoints("waits"), IsSupersetOf(acknowledged_));
}

TEST_F(FlowFault, AFullDiskIsASentenceAndTheMeshLives) {
  // No file may grow beyond 512 KiB, as on a disk that is full by then.
  Command up = mesh_.Bdhctl({"up", "--detach", "--set", "mesh.drain_timeout_seconds=5", "--set",
                             "trainer_worker.patience_seconds=0.2"});
  up.arguments.insert(up.arguments.begin(),
                      {"/bin/bash", "-c", "trap '' XFSZ; ulimit -f 512; exec \"$@\"", "limited"});
  ASSERT_EQ(Execute(up).exit_code, 0);
  const Outcome add = mesh_.Do({"data", "add", "large", "-"}, SomeText(2'000'000));
  EXPECT_EQ(add.exit_code, 1);
  EXPECT_THAT(add.err, HasSubstr("File too large"));
  mesh_.Ok({"data", "add", "small", "-"}, SomeText(100'000));
  // 3 MB of weights and moments: neither the store nor the worker's own disk takes them.
  const Outcome run =
      mesh_.Do({"train", "start", "--dataset", "small", "--config", config_, "--name", "large", "--set",
                "model.mlp_internal_dim_multiplier=64", "--set", "train.max_steps=2", "--watch"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("it could not be kept on this disk either"));
  EXPECT_TRUE(mesh_.WaitUntilHealthy());
  const Json status = mesh_.Status();
  for (const Json& daemon : status.at("daemons")) EXPECT_EQ(daemon.at("restarts"), 0) << daemon.dump(2);
  EXPECT_TRUE(Checkpoints("large").empty());
}

TEST_F(FlowFault, ADataFolderThatCannotBeWrittenToIsNamed) {
  const Outcome up = mesh_.Up({"--only", "trainer", "--set", "trainer_worker.data_dir=/proc/no-such-folder"});
  EXPECT_EQ(up.exit_code, 1);
  EXPECT_THAT(up.err, HasSubstr("create folder /proc/no-such-folder"));
}

}  // namespace
}  // namespace bdh::e2e
