// One mesh of five real daemons, from text to an answer over HTTP: text -> tokens -> training -> checkpoint
// -> tag -> loaded model -> completion. Then each daemon is killed in turn, and what was there must still be
// there. All tests share one mesh and its model; none changes what another relies on.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "tests/e2e/http_client.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

using ::testing::HasSubstr;

constexpr char kPrompt[] = "the river ";
constexpr int kMaxTokens = 24;

// About 100 KB of words that repeat, so that a tiny model learns something in a few steps.
std::string SomeText() {
  constexpr const char* kWords[] = {"the",    "river", "runs",  "over", "old",
                                    "stones", "and",   "sings", "to",   "trees"};
  std::string text;
  for (uint32_t i = 0, random = 1; text.size() < 100'000; ++i) {
    random = random * 1664525 + 1013904223;
    text += kWords[(random >> 16) % std::size(kWords)];
    text += i % 11 == 10 ? ".\n" : " ";
  }
  return text;
}

std::string Quote(const std::string& text) {
  return Json(text).dump();
}

class MeshE2E : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempDirectory>();
    mesh_ = std::make_unique<MeshDriver>(folder_->path());
    const Outcome up = mesh_->Up({"--json"});
    ASSERT_EQ(up.exit_code, 0) << up.err;
    url_ = Json::parse(up.out).at("url").get<std::string>();
    AddText();
    Train();
    Serve();
  }

  static void TearDownTestSuite() {
    const std::vector<pid_t> processes = mesh_->Processes();
    EXPECT_EQ(processes.size(), 6u);
    EXPECT_EQ(mesh_->Do({"down"}).exit_code, 0);
    for (const pid_t pid : processes) EXPECT_TRUE(IsGone(pid)) << pid;
    mesh_.reset();
    folder_.reset();
  }

  static void AddText() {
    const Json dataset = mesh_->OkJson({"data", "add", "rivers", "-"}, SomeText());
    ASSERT_EQ(dataset.value("name", ""), "rivers");
    EXPECT_EQ(dataset.at("bytes_in"), SomeText().size());
    EXPECT_EQ(dataset.at("train_tokens").get<size_t>() + dataset.at("validation_tokens").get<size_t>(),
              SomeText().size());
  }

  static void Train() {
    std::ofstream(ConfigFile())
        << "model: {n_layer: 2, n_embd: 32, n_head: 2, mlp_internal_dim_multiplier: 8}\n"
           "train: {max_steps: 20, batch_size: 4, block_size: 32, eval_interval: 10,\n"
           "        checkpoint_interval: 10, log_interval: 5}\n";
    const std::string out = mesh_->Ok({"train", "start", "--dataset", "rivers", "--config", ConfigFile(),
                                       "--name", "first", "--tag", "ready", "--watch"});
    EXPECT_THAT(out, HasSubstr("step 20/20"));
    EXPECT_THAT(out, HasSubstr("runs/first/steps/20"));
  }

  static void Serve() {
    mesh_->Ok({"ckpt", "tag", "runs/first/steps/20", "release/1"});
    const Json model = mesh_->OkJson({"models", "load", "release/1", "--id", "river"});
    EXPECT_EQ(model.value("id", ""), "river");
    EXPECT_EQ(model.value("checkpoint", ""), "runs/first/steps/20");
  }

  static std::string ConfigFile() { return folder_->path() + "/tiny.yaml"; }

  // What `bdhctl generate` says, greedily.
  static std::string Generate() {
    return mesh_
        ->OkJson({"generate", "--model", "river", kPrompt, "--max-tokens", std::to_string(kMaxTokens),
                  "--temperature", "0"})
        .value("text", "(no text)");
  }

  static std::string CompletionRequest(bool stream) {
    return absl::StrFormat(
        R"({"model": "river", "prompt": %s, "max_tokens": %d, "temperature": 0, "stream": %s})",
        Quote(kPrompt), kMaxTokens, stream ? "true" : "false");
  }

  // What the gateway says, greedily; or why not.
  static std::string Complete() {
    const auto response = Post(url_ + "/v1/completions", CompletionRequest(/*stream=*/false));
    if (!response.ok()) return response.status().ToString();
    if (response->status != 200) return absl::StrFormat("%d %s", response->status, response->body);
    return Json::parse(response->body).at("choices").at(0).at("text").get<std::string>();
  }

  static std::unique_ptr<TempDirectory> folder_;
  static std::unique_ptr<MeshDriver> mesh_;
  static std::string url_;
};

std::unique_ptr<TempDirectory> MeshE2E::folder_;
std::unique_ptr<MeshDriver> MeshE2E::mesh_;
std::string MeshE2E::url_;

TEST_F(MeshE2E, EveryListShowsWhatWasMade) {
  EXPECT_EQ(mesh_->OkJson({"data", "ls"}).at("datasets").at(0).at("name"), "rivers");
  const Json run = mesh_->OkJson({"train", "ls"}).at("runs").at(0);
  EXPECT_EQ(run.at("name"), "first");
  EXPECT_EQ(run.at("state"), "finished");
  EXPECT_LT(run.at("progress").at("train_loss").get<double>(),
            5.5);  // ln 256 is 5.545: it has learnt something.
  const Json checkpoints = mesh_->OkJson({"ckpt", "ls", "--run", "first"}).at("checkpoints");
  ASSERT_EQ(checkpoints.size(), 2u);
  EXPECT_EQ(checkpoints.at(0).at("name"), "runs/first/steps/20");
  EXPECT_THAT(mesh_->Ok({"ckpt", "ls", "--tags"}), HasSubstr("release/1"));
  EXPECT_EQ(mesh_->OkJson({"models", "ls"}).at("models").at(0).at("id"), "river");
  EXPECT_THAT(mesh_->Ok({"status"}), HasSubstr("bdh-inference"));
}

TEST_F(MeshE2E, TheGatewaySaysWhatTheToolSays) {
  const std::string text = Generate();
  EXPECT_EQ(text.size() >= 1, true);
  EXPECT_EQ(Complete(), text);
}

TEST_F(MeshE2E, AStreamSaysTheSamePieceByPiece) {
  BDH_ASSERT_OK_AND_ASSIGN(const HttpResponse response,
                           Post(url_ + "/v1/completions", CompletionRequest(/*stream=*/true)));
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_THAT(response.headers.at("content-type"), HasSubstr("text/event-stream"));
  const std::vector<std::string> events = Events(response.body);
  ASSERT_GT(events.size(), 2u);
  EXPECT_EQ(events.back(), "[DONE]");
  std::string text;
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    const Json event = Json::parse(events[i]);
    for (const Json& choice : event.at("choices")) text += choice.at("text").get<std::string>();
  }
  EXPECT_EQ(text, Generate());
}

TEST_F(MeshE2E, AChatIsAnswered) {
  BDH_ASSERT_OK_AND_ASSIGN(
      const HttpResponse response,
      Post(url_ + "/v1/chat/completions",
           R"({"model": "river", "messages": [{"role": "user", "content": "Sing."}], "max_tokens": 8})"));
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(Json::parse(response.body).at("choices").at(0).at("message").at("role"), "assistant");
}

TEST_F(MeshE2E, TheGatewayListsTheModelAndIsWell) {
  BDH_ASSERT_OK_AND_ASSIGN(const HttpResponse models, Get(url_ + "/v1/models"));
  EXPECT_EQ(Json::parse(models.body).at("data").at(0).at("id"), "river");
  for (const char* path : {"/healthz", "/metrics"}) {
    BDH_ASSERT_OK_AND_ASSIGN(const HttpResponse response, Get(url_ + path));
    EXPECT_EQ(response.status, 200) << path;
  }
}

TEST_F(MeshE2E, MalformedJsonIs400) {
  BDH_ASSERT_OK_AND_ASSIGN(const HttpResponse response,
                           Post(url_ + "/v1/completions", R"({"model": "river", )"));
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(Json::parse(response.body).at("error").at("type"), "invalid_request_error");
}

TEST_F(MeshE2E, AModelThatIsNotLoadedIs404) {
  BDH_ASSERT_OK_AND_ASSIGN(const HttpResponse response,
                           Post(url_ + "/v1/completions", R"({"model": "nobody", "prompt": "x"})"));
  EXPECT_EQ(response.status, 404);
  EXPECT_THAT(Json::parse(response.body).at("error").at("message").get<std::string>(), HasSubstr("nobody"));
}

TEST_F(MeshE2E, WhatIsNotThereIsASentenceAndExitCode1) {
  for (const std::vector<std::string>& typed :
       std::vector<std::vector<std::string>>{{"models", "load", "no/such/tag"},
                                             {"ckpt", "tag", "runs/none/steps/1", "x"},
                                             {"train", "watch", "none"},
                                             {"train", "stop", "none"},
                                             {"models", "unload", "none"},
                                             {"generate", "--model", "none", "x"},
                                             {"train", "start", "--dataset", "none"}}) {
    const Outcome outcome = mesh_->Do(typed);
    EXPECT_EQ(outcome.exit_code, 1) << ::testing::PrintToString(typed) << outcome.err;
    EXPECT_THAT(outcome.err, ::testing::StartsWith("bdhctl: "));
  }
}

TEST_F(MeshE2E, WhatIsTypedWronglyIsExitCode2) {
  for (const std::vector<std::string>& typed : std::vector<std::vector<std::string>>{
           {"data", "add", "x", "/no/such/file"},
           {"data", "add", "x"},
           {"data", "add", "Not A Name", "-"},
           {"train", "start", "--dataset", "rivers", "--set", "train.max_stepps=1"},
           {"train", "start", "--dataset", "rivers", "--set", "model.n_head=3"},
           {"generate", "--model", "river", "x", "--temperature", "9"},
           {"generate"},
           {"no-such-command"}}) {
    const Outcome outcome = mesh_->Do(typed);
    EXPECT_EQ(outcome.exit_code, 2) << ::testing::PrintToString(typed) << outcome.err;
    EXPECT_FALSE(outcome.err.empty()) << ::testing::PrintToString(typed);
  }
}

TEST_F(MeshE2E, TheSameTextAgainIsFineAndOtherTextUnderTheNameIsNot) {
  mesh_->Ok({"data", "add", "rivers", "-"}, SomeText());
  const Outcome other = mesh_->Do({"data", "add", "rivers", "-"}, std::string(1000, 'x'));
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.err, HasSubstr("rivers"));
}

TEST_F(MeshE2E, AWrongTokenIsRefusedWithASentence) {
  const std::string token = folder_->path() + "/wrong-token", file = folder_->path() + "/wrong.yaml";
  std::ofstream(token) << "not-the-token\n";
  ::chmod(token.c_str(), 0600);
  const Json mesh = mesh_->OkJson({"config", "show"}).at("mesh");
  std::ofstream(file) << absl::StrFormat("mesh: {token_file: %s, data_loader: \"%s\"}\n", token,
                                         mesh.at("data_loader").get<std::string>());
  const Outcome outcome = Execute(mesh_->BdhctlAnywhere({"data", "ls", "--config", file}));
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("does not accept this mesh token"));
  EXPECT_EQ(Execute(mesh_->BdhctlAnywhere({"status", "--config", file})).exit_code, 3);
}

TEST_F(MeshE2E, AMeshElsewhereIsReachedByItsConfiguration) {
  // The effective configuration has all that a client needs: addresses and the token's file.
  const std::string file = mesh_->data() + "/mesh.yaml";
  const Outcome outcome = Execute(mesh_->BdhctlAnywhere({"status", "--json", "--config", file}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_TRUE(Json::parse(outcome.out).at("healthy").get<bool>());
}

TEST_F(MeshE2E, CommandsTypedElsewhereFindTheMeshThatWasStartedLast) {
  Command command = mesh_->BdhctlAnywhere({"status", "--json"});
  command.arguments = {"/bin/sh", "-c", "cd / && exec " + command.arguments[0] + " status --json"};
  const Outcome outcome = Execute(command);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out).at("data"), mesh_->data());
}

TEST_F(MeshE2E, ARunThatWasStoppedGoesOn) {
  mesh_->Ok({"train", "start", "--dataset", "rivers", "--config", ConfigFile(), "--name", "second", "--set",
             "train.max_steps=100000"});
  EXPECT_EQ(mesh_->OkJson({"train", "stop", "second"}).value("state", ""), "stopped");
  const Json run = mesh_->OkJson({"train", "ls"}).at("runs").at(0);
  const int step = run.at("progress").at("step").get<int>();
  EXPECT_EQ(mesh_->Do({"train", "start", "--dataset", "rivers", "--name", "second"}).exit_code, 1);
  const std::string steps = absl::StrFormat("train.max_steps=%d", step + 3);
  EXPECT_THAT(mesh_->Ok({"train", "start", "--name", "second", "--resume", "--set", steps, "--watch"}),
              HasSubstr("finished"));
}

TEST_F(MeshE2E, ARunOutlivesItsWorkerAndItsWatcherSeesItToTheEnd) {
  mesh_->Ok({"train", "start", "--dataset", "rivers", "--config", ConfigFile(), "--name", "third", "--set",
             "train.max_steps=400", "--set", "train.checkpoint_interval=5"});
  Subprocess watch(mesh_->Bdhctl({"train", "watch", "third"}));
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (mesh_->OkJson({"ckpt", "ls", "--run", "third"}).at("checkpoints").empty() &&
         absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  ASSERT_EQ(kill(mesh_->Daemon("bdh-trainer-worker").at("pid").get<pid_t>(), SIGKILL), 0);
  const Outcome watched = watch.Wait(absl::Minutes(3));
  EXPECT_EQ(watched.exit_code, 0) << watched.out << watched.err;
  EXPECT_THAT(watched.out, HasSubstr("does not answer"));
  EXPECT_THAT(watched.out, HasSubstr("Run third finished: step 400/400"));
  ASSERT_TRUE(mesh_->WaitUntilHealthy());
}

// The log lines of a daemon that carry this trace id, once there are any.
std::string LinesOfTrace(const std::string& data, const std::string& daemon, const std::string& trace_id) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  std::string lines;
  while (lines.empty() && absl::Now() < deadline) {
    std::ifstream log(data + "/logs/" + daemon + ".log");
    for (std::string line; std::getline(log, line);) {
      if (line.find("trace=" + trace_id) != std::string::npos) lines += line + "\n";
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  return lines;
}

TEST_F(MeshE2E, OneTraceIdIsInTheLogsOfAllWhoWorkedForARequest) {
  mesh_->Ok({"loglevel", "debug"});
  EXPECT_EQ(mesh_->OkJson({"loglevel"}).at("bdh-gateway"), "debug");

  BDH_ASSERT_OK_AND_ASSIGN(const HttpResponse answer,
                           Post(url_ + "/v1/completions", CompletionRequest(/*stream=*/false)));
  const std::string traceparent = answer.headers.at("traceparent");
  ASSERT_EQ(traceparent.size(), 55u) << traceparent;
  const std::string made = traceparent.substr(3, 32);
  EXPECT_EQ(answer.headers.at("x-request-id"), "req_" + made);
  EXPECT_THAT(LinesOfTrace(mesh_->data(), "bdh-gateway", made), HasSubstr("path=/v1/completions status=200"));
  EXPECT_THAT(LinesOfTrace(mesh_->data(), "bdh-inference", made), HasSubstr("call method=Generate code=OK"));

  const std::string given = "4bf92f3577b34da6a3ce929d0e0e4736";
  const auto do_under_trace = [&](std::vector<std::string> arguments) {
    Command command = mesh_->Bdhctl(std::move(arguments));
    command.environment["TRACEPARENT"] = "00-" + given + "-00f067aa0ba902b7-01";
    const Outcome outcome = Execute(command);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  };
  do_under_trace({"train", "start", "--dataset", "rivers", "--config", ConfigFile(), "--name", "traced",
                  "--set", "train.max_steps=2", "--watch"});
  do_under_trace({"models", "load", "release/1", "--id", "traced"});
  EXPECT_THAT(LinesOfTrace(mesh_->data(), "bdh-trainer-worker", given), HasSubstr("checkpoint saved"));
  EXPECT_THAT(LinesOfTrace(mesh_->data(), "bdh-data-loader", given), HasSubstr("method=StreamBatches"));
  EXPECT_THAT(LinesOfTrace(mesh_->data(), "bdh-inference", given), HasSubstr("model loaded id=traced"));
  const std::string store = LinesOfTrace(mesh_->data(), "bdh-checkpoint-store", given);
  EXPECT_THAT(store, HasSubstr("method=PutCheckpoint"));
  EXPECT_THAT(store, HasSubstr("method=GetCheckpoint"));
  mesh_->Ok({"models", "unload", "traced"});
  mesh_->Ok({"loglevel", "info"});
}

TEST_F(MeshE2E, TheTokenIsReplacedWhileAllRuns) {
  const Json before = mesh_->OkJson({"token", "show"});
  const Json after = mesh_->OkJson({"token", "rotate"});
  EXPECT_EQ(after.at("tokens").size(), 1u);
  EXPECT_NE(after.at("tokens"), before.at("tokens"));
  EXPECT_EQ(Complete(), Generate());
  EXPECT_THAT(mesh_->Ok({"train", "ls"}), HasSubstr("first"));
}

class KillE2E : public MeshE2E, public ::testing::WithParamInterface<const char*> {};

TEST_P(KillE2E, ADaemonThatIsKilledComesBackWithAllItHad) {
  const std::string before = Complete();
  const Json victim = mesh_->Daemon(GetParam());
  ASSERT_EQ(kill(victim.at("pid").get<pid_t>(), SIGKILL), 0);
  // Until the supervisor has seen it, the status may still be the old one.
  const absl::Time deadline = absl::Now() + absl::Seconds(90);
  while (mesh_->Daemon(GetParam()).value("restarts", 0) == 0 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(50));
  }
  ASSERT_TRUE(mesh_->WaitUntilHealthy()) << mesh_->Status().dump(2);
  EXPECT_NE(mesh_->Daemon(GetParam()).at("pid"), victim.at("pid"));
  EXPECT_EQ(mesh_->Daemon(GetParam()).at("last_exit"), "signal 9 (Killed)");

  EXPECT_THAT(mesh_->Ok({"data", "ls"}), HasSubstr("rivers"));
  EXPECT_THAT(mesh_->Ok({"ckpt", "ls"}), HasSubstr("runs/first/steps/20"));
  EXPECT_THAT(mesh_->Ok({"train", "ls"}), HasSubstr("first"));
  // A restarted inference loads its models again, which takes a moment.
  while (Complete() != before && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(Complete(), before);
  EXPECT_THAT(mesh_->Ok({"models", "ls"}), HasSubstr("river"));
  std::ifstream log(mesh_->data() + "/logs/supervisor.log");
  EXPECT_THAT(std::string(std::istreambuf_iterator<char>(log), {}),
              HasSubstr(absl::StrFormat("%s ended with signal 9 (Killed)", GetParam())));
}

INSTANTIATE_TEST_SUITE_P(EachInTurn, KillE2E,
                         ::testing::Values("bdh-gateway", "bdh-inference", "bdh-trainer-worker",
                                           "bdh-data-loader", "bdh-checkpoint-store"));

}  // namespace
}  // namespace bdh::e2e
