// SIGTERM under load: what is under way ends well or is told why not, what comes is refused with a sentence,
// and what a run has learnt is saved. Also when it comes twice, and after the supervisor was killed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/mutex.h"
#include "bdh/testing/temp_directory.h"
#include "tests/e2e/http_client.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr absl::Duration kPatience = absl::Seconds(90);

bool Await(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

std::string Body(int max_tokens) {
  return absl::StrFormat(
      R"({"model": "river", "prompt": "the river ", "max_tokens": %d, "temperature": 0, "stream": true})",
      max_tokens);
}

// Text of a stream, and whether it came to its end; or the error it ended with.
struct Streamed {
  std::string text, error;
  bool done = false;
};
Streamed Parse(const HttpResponse& response) {
  Streamed streamed;
  for (const std::string& event : Events(response.body)) {
    if (event == "[DONE]") {
      streamed.done = true;
      continue;
    }
    const Json json = Json::parse(event);
    if (json.contains("error")) streamed.error = json.at("error").at("message").get<std::string>();
    for (const Json& choice : json.value("choices", Json::array()))
      streamed.text += choice.at("text").get<std::string>();
  }
  return streamed;
}

// Clients that ask without pause until nobody listens any more, each over new connections.
class Load {
 public:
  Load(std::string url, std::string expected, int max_tokens, int clients) {
    for (int i = 0; i < clients; ++i) {
      threads_.emplace_back([this, url, expected, max_tokens] {
        while (Ask(url, expected, max_tokens)) {
        }
      });
    }
  }
  ~Load() {
    for (std::thread& thread : threads_) thread.join();
  }

  int answered() const { return answered_; }
  int refused() const { return refused_; }
  std::vector<std::string> failures() {
    MutexLock lock(mutex_);
    return failures_;
  }
  void Join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  // False: nobody listens.
  bool Ask(const std::string& url, const std::string& expected, int max_tokens) {
    const auto response = Post(url + "/v1/completions", Body(max_tokens));
    if (!response.ok() && absl::StrContains(response.status().message(), "connect to")) return false;
    if (!response.ok()) return Fail(response.status().ToString());
    if (response->status == 503 && absl::StrContains(response->body, "\"message\"")) {
      ++refused_;
      absl::SleepFor(absl::Milliseconds(20));
      return true;
    }
    if (response->status != 200) return Fail(absl::StrFormat("%d %s", response->status, response->body));
    const Streamed streamed = Parse(*response);
    if (!streamed.done || streamed.text != expected) {
      return Fail(absl::StrFormat("a stream of %d characters, done %d, error '%s'", streamed.text.size(),
                                  streamed.done, streamed.error));
    }
    ++answered_;
    return true;
  }
  bool Fail(const std::string& what) {
    MutexLock lock(mutex_);
    failures_.push_back(what);
    return failures_.size() < 100;
  }

  std::atomic<int> answered_ = 0, refused_ = 0;
  Mutex mutex_;
  std::vector<std::string> failures_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

class DrainFault : public ::testing::Test {
 protected:
  void Up(double drain_timeout_seconds) {
    const Outcome up =
        mesh_.Up({"--json", "--set", absl::StrFormat("mesh.drain_timeout_seconds=%g", drain_timeout_seconds),
                  "--set", "inference.max_context_tokens=5000000"});
    ASSERT_EQ(up.exit_code, 0) << up.err;
    url_ = Json::parse(up.out).at("url").get<std::string>();
    std::ofstream(config_) << "model: {n_layer: 2, n_embd: 32, n_head: 2, mlp_internal_dim_multiplier: 8}\n"
                              "train: {max_steps: 10, batch_size: 4, block_size: 32, eval_interval: 0}\n";
    std::string text;
    while (text.size() < 20'000) text += "the river runs over old stones and sings to the trees. ";
    mesh_.Ok({"data", "add", "rivers", "-"}, text);
  }
  void Serve() {
    mesh_.Ok({"train", "start", "--dataset", "rivers", "--config", config_, "--name", "first", "--watch"});
    mesh_.Ok({"models", "load", "first/latest", "--id", "river"});
  }
  void StartEndlessRun(const std::string& name) {
    mesh_.Ok({"train", "start", "--dataset", "rivers", "--config", config_, "--name", name, "--set",
              "train.max_steps=1000000"});
    ASSERT_TRUE(Await([&] { return absl::StrContains(KeyFigure("bdh-trainer-worker"), name + " step "); }));
  }
  // After a restart the gateway may still wait before it connects anew.
  absl::StatusOr<HttpResponse> PostUntilAdmitted(const std::string& body) {
    const absl::Time deadline = absl::Now() + kPatience;
    while (true) {
      auto response = Post(url_ + "/v1/completions", body);
      if (!response.ok() || response->status != 503 || absl::Now() > deadline) return response;
      absl::SleepFor(absl::Milliseconds(20));
    }
  }
  std::string KeyFigure(const std::string& daemon) { return mesh_.Daemon(daemon).value("key_figure", ""); }
  // Waits for the process that comes after `pid`. What the supervisor says of the daemon then.
  Json AwaitNext(const std::string& daemon, pid_t pid) {
    Json status;
    EXPECT_TRUE(Await([&] {
      status = mesh_.Daemon(daemon);
      return status.value("healthy", false) && status.value("pid", 0) != pid;
    }));
    return status;
  }
  pid_t Signal(const std::string& daemon, int signal_number) {
    const pid_t pid = mesh_.Daemon(daemon).value("pid", 0);
    EXPECT_GT(pid, 1);
    if (pid > 1) kill(pid, signal_number);
    return pid;
  }
  std::string Log(const std::string& process) const {
    std::ifstream file(mesh_.data() + "/logs/" + process + ".log");
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  TempDirectory folder_;
  const std::string config_ = folder_.path() + "/tiny.yaml";
  MeshDriver mesh_{folder_.path()};
  std::string url_;
};

TEST_F(DrainFault, NoRequestInFlightFailsWhenInferenceRestartsAndWhenTheMeshGoesDown) {
  constexpr int kTokens = 4000;
  Up(20);
  Serve();
  const auto alone = Post(url_ + "/v1/completions", Body(kTokens));
  ASSERT_TRUE(alone.ok()) << alone.status();
  const std::string expected = Parse(*alone).text;
  Load load(url_, expected, kTokens, 4);
  ASSERT_TRUE(Await([&] { return load.answered() >= 8; }));
  const pid_t pid = Signal("bdh-inference", SIGTERM);
  EXPECT_EQ(AwaitNext("bdh-inference", pid).at("last_exit"), "exit code 0");
  const int before = load.answered();
  ASSERT_TRUE(Await([&] { return load.answered() >= before + 8; }));
  const absl::Time start = absl::Now();
  EXPECT_EQ(mesh_.Do({"down"}).exit_code, 0);
  std::cout << "down under load took " << absl::FormatDuration(absl::Now() - start) << std::endl;
  load.Join();
  EXPECT_THAT(load.failures(), IsEmpty());
  std::cout << load.answered() << " requests answered, " << load.refused() << " refused" << std::endl;
  EXPECT_THAT(Log("supervisor"), Not(HasSubstr("by force")));
}

TEST_F(DrainFault, AStreamThatIsTooLongIsToldWhyItEndsAndTheNextSignalEndsTheDaemonAtOnce) {
  constexpr int kEndless = 4'000'000;
  Up(1);
  Serve();
  auto stream = std::async(std::launch::async, [&] { return PostUntilAdmitted(Body(kEndless)); });
  ASSERT_TRUE(Await([&] { return absl::StrContains(KeyFigure("bdh-inference"), "1 active"); }));
  pid_t pid = Signal("bdh-inference", SIGTERM);
  const auto response = stream.get();
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 200);
  EXPECT_THAT(Parse(*response).error, HasSubstr("shutting down"));
  EXPECT_EQ(AwaitNext("bdh-inference", pid).at("last_exit"), "exit code 0");

  ASSERT_TRUE(Await([&] { return absl::StrContains(KeyFigure("bdh-inference"), "1 model"); }));
  stream = std::async(std::launch::async, [&] { return PostUntilAdmitted(Body(kEndless)); });
  ASSERT_TRUE(Await([&] { return absl::StrContains(KeyFigure("bdh-inference"), "1 active"); }));
  pid = Signal("bdh-inference", SIGTERM);
  ASSERT_TRUE(Await([&] { return absl::StrContains(Log("bdh-inference"), "draining reason=signal 15"); }));
  kill(pid, SIGINT);
  EXPECT_EQ(AwaitNext("bdh-inference", pid).at("last_exit"), "exit code 3");
  (void)stream.get();  // However it ended.
}

TEST_F(DrainFault, ARunIsSavedByWhoeverLeavesAndGoesOnAlsoWhenTheSupervisorWasKilled) {
  Up(20);
  StartEndlessRun("long");
  const pid_t pid = Signal("bdh-trainer-worker", SIGTERM);
  EXPECT_EQ(AwaitNext("bdh-trainer-worker", pid).at("last_exit"), "exit code 0");
  EXPECT_THAT(Log("bdh-trainer-worker"), HasSubstr("saved=runs/long/steps/"));
  ASSERT_TRUE(Await([&] { return absl::StrContains(KeyFigure("bdh-trainer-worker"), "long step "); }));
  const size_t checkpoints = mesh_.OkJson({"ckpt", "ls", "--run", "long"}).at("checkpoints").size();

  const std::vector<pid_t> processes = mesh_.Processes();
  ASSERT_EQ(kill(processes.at(0), SIGKILL), 0);
  EXPECT_EQ(mesh_.Do({"down"}).exit_code, 0);
  EXPECT_TRUE(AllGone(processes));
  // The store left last and because it was told to, not after the time it would have waited.
  EXPECT_THAT(Log("bdh-checkpoint-store"), HasSubstr("draining reason=signal 15"));
  EXPECT_THAT(Log("bdh-checkpoint-store"), HasSubstr("left daemon="));
  EXPECT_FALSE(std::filesystem::exists(mesh_.data() + "/trainer-worker/kept/long.safetensors"));

  ASSERT_EQ(mesh_.Up().exit_code, 0);
  ASSERT_TRUE(Await([&] { return absl::StrContains(KeyFigure("bdh-trainer-worker"), "long step "); }));
  EXPECT_GT(mesh_.OkJson({"ckpt", "ls", "--run", "long"}).at("checkpoints").size(), checkpoints);
}

}  // namespace
}  // namespace bdh::e2e
