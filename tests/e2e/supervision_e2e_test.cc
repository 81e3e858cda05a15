// What an operator has of the supervisor: logs that are read, followed and rotated, a status that is watched,
// a terminal that may be closed, parts of a mesh, and `down` and `up` that come at once.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <future>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "bdh/testing/temp_directory.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Read(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

// A bare container may have none.
bool HasTerminals() {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0) return false;
  close(terminal);
  return true;
}

// A program on a terminal of its own, which is closed when this is destroyed.
class OnTerminal {
 public:
  explicit OnTerminal(const Command& command) {
    std::vector<char*> arguments;
    for (const std::string& argument : command.arguments)
      arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    pid_ = forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (pid_ != 0) return;
    for (const auto& [name, value] : command.environment) setenv(name.c_str(), value.c_str(), 1);
    unsetenv("NO_COLOR");
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  ~OnTerminal() { close(terminal_); }

  pid_t pid() const { return pid_; }

  // What it shows, up to `text`; or all there is when it ends before.
  std::string ReadUntil(const std::string& text) {
    char buffer[4096];
    while (shown_.find(text) == std::string::npos) {
      const ssize_t got = read(terminal_, buffer, sizeof(buffer));
      if (got <= 0) break;
      shown_.append(buffer, got);
    }
    return shown_;
  }

 private:
  int terminal_ = -1;
  pid_t pid_ = -1;
  std::string shown_;
};

class SupervisionE2E : public ::testing::Test {
 protected:
  std::string LogOf(const std::string& process) const { return mesh_.data() + "/logs/" + process + ".log"; }

  TempDirectory folder_;
  MeshDriver mesh_{folder_.path()};
};

TEST_F(SupervisionE2E, AMeshInTheForegroundShowsItsLogsAndOutlivesItsTerminal) {
  if (!HasTerminals()) GTEST_SKIP() << "this system has no pseudo-terminals (is /dev/pts mounted?)";
  std::optional<OnTerminal> terminal(std::in_place,
                                     mesh_.Bdhctl({"up", "--set", "mesh.drain_timeout_seconds=5"}));
  const std::string shown = terminal->ReadUntil("Ctrl-C ends it.");
  EXPECT_THAT(shown, HasSubstr("its gateway answers at"));
  EXPECT_THAT(terminal->ReadUntil("checkpoint store ready"), HasSubstr("\033[36mcheckpoint-store |\033[0m"));
  ASSERT_TRUE(mesh_.WaitUntilHealthy());
  const std::vector<pid_t> processes = mesh_.Processes();
  terminal.reset();
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (Read(LogOf("supervisor")).find("the terminal is gone") == std::string::npos &&
         absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_THAT(Read(LogOf("supervisor")), HasSubstr("the terminal is gone"));
  // It still does its work.
  ASSERT_EQ(kill(mesh_.Daemon("bdh-data-loader").at("pid").get<pid_t>(), SIGKILL), 0);
  while (mesh_.Daemon("bdh-data-loader").value("restarts", 0) == 0 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(50));
  }
  ASSERT_TRUE(mesh_.WaitUntilHealthy());
  EXPECT_EQ(mesh_.Processes().at(0), processes.at(0));
  EXPECT_EQ(mesh_.Do({"down"}).exit_code, 0);
  EXPECT_TRUE(AllGone(processes));
  int status = 0;
  EXPECT_EQ(waitpid(processes.at(0), &status, 0), processes.at(0));
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST_F(SupervisionE2E, LogsAndStatusAreReadAndFollowed) {
  ASSERT_EQ(mesh_.Up().exit_code, 0);
  // All together, plain in a pipe, each line with its daemon.
  const std::string all = mesh_.Ok({"logs", "-n", "1000"});
  EXPECT_THAT(all, HasSubstr("checkpoint-store | "));
  EXPECT_THAT(all, HasSubstr("supervisor       | "));
  EXPECT_THAT(all, HasSubstr("the mesh is up"));
  EXPECT_THAT(all, Not(HasSubstr("\033[")));
  EXPECT_EQ(Lines(mesh_.Ok({"logs", "gateway", "-n", "1"})).size(), 1u);
  for (const std::string& line : Lines(mesh_.Ok({"logs", "--json", "-n", "1000"}))) {
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    ASSERT_TRUE(json.is_object()) << line;
    EXPECT_TRUE(json.contains("daemon") && json.contains("line")) << line;
  }
  EXPECT_EQ(mesh_.Do({"logs", "nobody"}).exit_code, 2);

  Subprocess follow(mesh_.Bdhctl({"logs", "loader", "-f", "-n", "0"}));
  Subprocess watch(mesh_.Bdhctl({"status", "--watch", "--interval", "0.1", "--json"}));
  Subprocess table(mesh_.Bdhctl({"status", "--watch", "--interval", "0.1"}));
  // Rotated under the follower's eyes, as the supervisor does when a log is full.
  mesh_.Ok({"data", "add", "before", "-"}, std::string(2000, 'a'));
  ASSERT_EQ(rename(LogOf("bdh-data-loader").c_str(), (LogOf("bdh-data-loader") + ".1").c_str()), 0);
  ASSERT_EQ(kill(mesh_.Daemon("bdh-data-loader").at("pid").get<pid_t>(), SIGHUP), 0);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (access(LogOf("bdh-data-loader").c_str(), F_OK) != 0 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  mesh_.Ok({"data", "add", "after", "-"}, std::string(2000, 'b'));
  EXPECT_THAT(Read(LogOf("bdh-data-loader")), HasSubstr("name=after"));
  while (follow.Printed().find("name=after") == std::string::npos && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_THAT(follow.Printed(), HasSubstr("name=before"));
  EXPECT_THAT(follow.Printed(), HasSubstr("name=after"));
  while (Lines(watch.Printed()).size() < 2 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(Json::parse(Lines(watch.Printed()).at(1)).at("state"), "up");
  EXPECT_THAT(table.Printed(), HasSubstr("bdh-inference"));

  // Two at once: the second one's signal does not turn the first one's order into force.
  auto other = std::async(std::launch::async, [&] { return mesh_.Do({"down"}); });
  EXPECT_EQ(mesh_.Do({"down"}).exit_code, 0);
  EXPECT_EQ(other.get().exit_code, 0);
  EXPECT_THAT(Read(LogOf("supervisor")), HasSubstr("the mesh is down"));
  EXPECT_THAT(Read(LogOf("supervisor")), Not(HasSubstr("by force")));
  for (const char* daemon : {"bdh-gateway", "bdh-inference", "bdh-checkpoint-store"}) {
    EXPECT_THAT(Read(LogOf(daemon)), HasSubstr("left daemon=")) << daemon;
  }
  EXPECT_EQ(watch.Wait(absl::Seconds(60)).exit_code, 3) << "nothing is left to watch";
  EXPECT_THAT(mesh_.Ok({"logs", "store"}), HasSubstr("left daemon=")) << "also of a mesh that is down";
}

TEST_F(SupervisionE2E, APartOfAMeshIsWellByItself) {
  const Outcome up =
      mesh_.Up({"--only", "store,gateway", "--insecure", "--set", "gateway.http_listen=0.0.0.0:0"});
  ASSERT_EQ(up.exit_code, 0) << up.err;
  const std::vector<pid_t> processes = mesh_.Processes();
  EXPECT_EQ(processes.size(), 3u);
  EXPECT_EQ(mesh_.Do({"status"}).exit_code, 0);
  EXPECT_EQ(mesh_.Daemon("bdh-checkpoint-store").at("health"), "ready");
  EXPECT_EQ(mesh_.Daemon("bdh-inference").at("health"), "not here");
  EXPECT_EQ(mesh_.Do({"down"}).exit_code, 0);
  EXPECT_TRUE(AllGone(processes));
  EXPECT_EQ(mesh_.Do({"up", "--only", "store,everything"}).exit_code, 2);
}

TEST_F(SupervisionE2E, DownAndUpAtOnceLeaveOneMeshOrNoneButNoHalf) {
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(mesh_.Up({"--only", "store"}).exit_code, 0);
    auto down = std::async(std::launch::async, [&] { return mesh_.Do({"down"}); });
    const Outcome up = mesh_.Up({"--only", "store"});
    EXPECT_EQ(down.get().exit_code, 0);
    EXPECT_EQ(up.exit_code, 0) << up.err;
    const std::vector<pid_t> processes = mesh_.Processes();
    // `up` came first and found the mesh up, and `down` ended it; or it came second and began another.
    const int status = mesh_.Do({"status"}).exit_code;
    EXPECT_THAT(status, AnyOf(0, 3));
    EXPECT_EQ(processes.size(), status == 0 ? 2u : 0u);
    EXPECT_EQ(mesh_.Do({"down"}).exit_code, 0);
    EXPECT_TRUE(AllGone(processes));
  }
}

}  // namespace
}  // namespace bdh::e2e
