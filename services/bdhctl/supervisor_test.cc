// The supervisor against daemons that are shell scripts, so that they can be made to die as we like: whether
// it starts in order, restarts what dies, gives up in time, and leaves nobody behind. The real daemons are in
// tests/e2e.
#include "services/bdhctl/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <optional>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::bdhctl {
namespace {

using ::testing::HasSubstr;

// Arguments are those of the real ones: --config FILE --ready-file FILE.
constexpr char kGood[] = "echo \"{\\\"pid\\\": $$}\" > \"$4\"; exec sleep 1000\n";
constexpr char kDiesOnceUp[] =
    "echo \"{\\\"pid\\\": $$}\" > \"$4\"\n"
    "until grep -q '\"state\": \"up\"' \"${2%.yaml}.json\"; do sleep 0.02; done\n"
    "echo last words; exit 7\n";
constexpr char kNeverReady[] = "exec sleep 1000\n";
constexpr char kRefusesConfig[] = "echo unknown key; exit 2\n";
// Counts into its log, and opens that again when told to.
constexpr char kLogs[] =
    "trap 'exec >> \"$BDH_LOG_FILE\" 2>&1' HUP\n"
    "i=0; echo \"{\\\"pid\\\": $$}\" > \"$4\"\n"
    "while true; do echo line $i; i=$((i + 1)); sleep 0.01; done\n";
// Leaves in order when the first of two was asked to.
constexpr char kLeavesWhenAsked[] =
    "trap 'exit 0' TERM; echo \"{\\\"pid\\\": $$}\" > \"$4\"; while true; do sleep 0.02; done\n";
constexpr char kDeafToSigterm[] =
    "trap '' TERM; echo \"{\\\"pid\\\": $$}\" > \"$4\"; while true; do sleep 0.1; done\n";

class SupervisorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Before the test framework or gRPC have threads that would take the signals.
    BlockSupervisorSignals();
    BDH_ASSERT_OK(folder_.Create());
    auto lock = folder_.Lock();
    BDH_ASSERT_OK(lock.status());
    lock_.emplace(*std::move(lock));
    BDH_ASSERT_OK(MakeDirectories(bin_));
    for (const std::string_view daemon : kDaemons) Install(daemon, kGood);
    config::FillDefaults(config_);
    config_.mutable_mesh()->set_drain_timeout_seconds(0);
    PlaceUnder(folder_, config_);
  }

  void Install(std::string_view daemon, std::string_view script) {
    const std::string path = absl::StrFormat("%s/%s", bin_, daemon);
    BDH_ASSERT_OK(WriteFileAtomically(path, absl::StrFormat("#!/bin/sh\n%s", script), 0755));
  }

  std::unique_ptr<Supervisor> Make(absl::Duration start_timeout = absl::Seconds(30)) {
    return std::make_unique<Supervisor>(
        Supervisor::Options{.folder = folder_,
                            .lock = &*lock_,
                            .config = config_,
                            .ports = {},
                            .daemons = daemons_,
                            .bin_folder = bin_,
                            .start_timeout = start_timeout,
                            .say = [this](std::string_view text) { said_.emplace_back(text); },
                            .on_hangup = [this] { ++hangups_; }});
  }

  std::string Said() const { return absl::StrJoin(said_, "\n"); }

  const DaemonState& Daemon(const MeshState& state, std::string_view name) const {
    for (const DaemonState& daemon : state.daemons) {
      if (daemon.name == name) return daemon;
    }
    ADD_FAILURE() << "no " << name;
    return state.daemons.front();
  }

  // Asks the supervisor in this process to stop once `condition` holds for what mesh.json says.
  std::thread StopWhen(const std::function<bool(const MeshState&)>& condition) {
    return std::thread([this, condition] {
      const absl::Time deadline = absl::Now() + absl::Seconds(60);
      while (absl::Now() < deadline) {
        const auto state = folder_.ReadState();
        if (state.ok() && condition(*state)) break;
        absl::SleepFor(absl::Milliseconds(10));
      }
      kill(getpid(), SIGTERM);
    });
  }

  TempDirectory temp_;
  const MeshFolder folder_{temp_.path() + "/mesh"};
  const std::string bin_ = temp_.path() + "/bin";
  std::optional<FileLock> lock_;
  v1::Config config_;
  std::vector<std::string_view> daemons_{kDaemons.begin(), kDaemons.end()};
  std::vector<std::string> said_;
  std::atomic<int> hangups_ = 0;
};

TEST_F(SupervisorTest, StartsAllAndLeavesNobodyBehind) {
  auto supervisor = Make();
  BDH_ASSERT_OK(supervisor->Start());
  BDH_ASSERT_OK_AND_ASSIGN(const MeshState state, folder_.ReadRunningState());
  EXPECT_EQ(state.state, "up");
  EXPECT_EQ(state.LiveDaemons().size(), kDaemons.size());
  struct stat info;
  ASSERT_EQ(stat(folder_.ConfigFile().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  supervisor->Stop();
  EXPECT_TRUE(state.LiveDaemons().empty());
  EXPECT_FALSE(folder_.ReadState().ok());
}

TEST_F(SupervisorTest, ADaemonThatIsKilledComesBackAndThePersonIsTold) {
  auto supervisor = Make();
  BDH_ASSERT_OK(supervisor->Start());
  const ProcessId victim = Daemon(supervisor->state(), "bdh-gateway").process;
  ASSERT_TRUE(Signal(victim, SIGKILL));
  std::thread stopper = StopWhen([&](const MeshState& state) {
    const DaemonState& gateway = Daemon(state, "bdh-gateway");
    return gateway.state == "running" && gateway.restarts == 1 && gateway.process.pid != victim.pid;
  });
  supervisor->Run();
  stopper.join();
  EXPECT_EQ(Daemon(supervisor->state(), "bdh-gateway").restarts, 1);
  EXPECT_THAT(Said(), HasSubstr("bdh-gateway ended with signal 9 (Killed)"));
  EXPECT_THAT(Said(), HasSubstr("bdh-gateway is back"));
}

TEST_F(SupervisorTest, ADaemonThatKeepsDyingIsGivenUpAndItsLastWordsShown) {
  Install("bdh-inference", kDiesOnceUp);
  auto supervisor = Make();
  BDH_ASSERT_OK(supervisor->Start());
  std::thread stopper =
      StopWhen([&](const MeshState& state) { return Daemon(state, "bdh-inference").state == "given up"; });
  supervisor->Run();
  stopper.join();
  EXPECT_EQ(Daemon(supervisor->state(), "bdh-inference").state, "given up");
  EXPECT_THAT(Said(), HasSubstr("ended with exit code 7, for the 5th time within a minute"));
  EXPECT_THAT(Said(), HasSubstr("    last words"));
}

TEST_F(SupervisorTest, ADaemonThatLeavesBecauseItWasAskedToIsBackAndNotHeldAgainstIt) {
  Install("bdh-inference", kLeavesWhenAsked);
  auto supervisor = Make();
  BDH_ASSERT_OK(supervisor->Start());
  pid_t asked = 0;
  int times = 0;
  std::thread stopper = StopWhen([&](const MeshState& state) {
    const DaemonState& inference = Daemon(state, "bdh-inference");
    if (inference.state != "running" || inference.process.pid == asked) return false;
    if (times++ > Supervisor::kDeathsToGiveUp) return true;
    asked = inference.process.pid;
    kill(asked, SIGTERM);
    return false;
  });
  supervisor->Run();
  stopper.join();
  EXPECT_EQ(Daemon(supervisor->state(), "bdh-inference").restarts, times - 1);
  EXPECT_THAT(Said(), HasSubstr("bdh-inference has left as it was asked to"));
}

TEST_F(SupervisorTest, ALogThatGrowsIsRotatedWhileItsDaemonWrites) {
  config_.mutable_supervisor()->set_log_file_bytes(300);
  config_.mutable_supervisor()->set_log_files(100);
  Install("bdh-data-loader", kLogs);
  auto supervisor = Make();
  BDH_ASSERT_OK(supervisor->Start());
  const std::string log = folder_.LogFile("bdh-data-loader");
  std::thread stopper = StopWhen([&](const MeshState&) { return access((log + ".2").c_str(), F_OK) == 0; });
  supervisor->Run();
  stopper.join();
  supervisor->Stop();
  std::vector<std::string> lines;
  for (int age = 100; age >= 0; --age) {
    const auto text = ReadFile(age == 0 ? log : absl::StrFormat("%s.%d", log, age));
    if (!text.ok()) continue;
    for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty()))
      lines.emplace_back(line);
  }
  ASSERT_GT(lines.size(), 50u);
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i], absl::StrFormat("line %d", i));
}

TEST_F(SupervisorTest, ATerminalThatGoesAwayEndsNothing) {
  auto supervisor = Make();
  BDH_ASSERT_OK(supervisor->Start());
  kill(getpid(), SIGHUP);
  bool alive = false;
  std::thread stopper = StopWhen([&](const MeshState& state) {
    alive = state.LiveDaemons().size() == kDaemons.size();
    return hangups_ > 0;
  });
  supervisor->Run();
  stopper.join();
  EXPECT_EQ(hangups_, 1);
  EXPECT_TRUE(alive);
}

TEST_F(SupervisorTest, OnlyThoseThatWereAskedForAreStarted) {
  daemons_ = {"bdh-checkpoint-store", "bdh-inference"};
  auto supervisor = Make();
  BDH_ASSERT_OK(supervisor->Start());
  BDH_ASSERT_OK_AND_ASSIGN(const MeshState state, folder_.ReadRunningState());
  EXPECT_EQ(state.LiveDaemons().size(), 2u);
  EXPECT_NE(state.Find("bdh-inference"), nullptr);
  EXPECT_EQ(state.Find("bdh-gateway"), nullptr);
  supervisor->Stop();
  EXPECT_TRUE(WaitUntilGone(state.LiveDaemons(), absl::ZeroDuration()));
}

TEST_F(SupervisorTest, ADaemonThatCannotStartEndsTheStartWithItsLog) {
  Install("bdh-inference", "echo no such device; exit 1\n");
  auto supervisor = Make();
  const absl::Status status = supervisor->Start();
  ASSERT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("bdh-inference could not start (exit code 1)"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("    no such device"));
  EXPECT_TRUE(supervisor->state().LiveDaemons().empty());
}

TEST_F(SupervisorTest, ADaemonThatIsMissingEndsTheStartWithASentence) {
  unlink((bin_ + "/bdh-data-loader").c_str());
  const absl::Status status = Make()->Start();
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot run"));
}

TEST_F(SupervisorTest, ARefusedConfigurationIsToldApart) {
  Install("bdh-checkpoint-store", kRefusesConfig);
  EXPECT_TRUE(absl::IsInvalidArgument(Make()->Start()));
}

TEST_F(SupervisorTest, ADaemonThatIsNeverReadyEndsTheStart) {
  Install("bdh-trainer-worker", kNeverReady);
  auto supervisor = Make(absl::Seconds(1));
  EXPECT_TRUE(absl::IsDeadlineExceeded(supervisor->Start()));
  EXPECT_TRUE(supervisor->state().LiveDaemons().empty());
}

TEST_F(SupervisorTest, ASignalWhileStartingEndsTheStart) {
  Install("bdh-trainer-worker", kNeverReady);
  auto supervisor = Make();
  std::thread stopper = StopWhen(
      [&](const MeshState& state) { return Daemon(state, "bdh-trainer-worker").state == "starting"; });
  EXPECT_TRUE(absl::IsCancelled(supervisor->Start()));
  stopper.join();
  EXPECT_TRUE(supervisor->state().LiveDaemons().empty());
}

TEST_F(SupervisorTest, ASecondSignalEndsAtOnceWhatDoesNotListen) {
  config_.mutable_mesh()->set_drain_timeout_seconds(3000);
  Install("bdh-inference", kDeafToSigterm);
  auto supervisor = Make();
  BDH_ASSERT_OK(supervisor->Start());
  const std::vector<ProcessId> daemons = supervisor->state().LiveDaemons();
  std::thread stopper = StopWhen([](const MeshState& state) { return state.state == "stopping"; });
  supervisor->Stop();
  stopper.join();
  EXPECT_TRUE(WaitUntilGone(daemons, absl::ZeroDuration()));
}

TEST_F(SupervisorTest, DaemonsDoNotSeeVariablesThatWouldOverrideTheirConfiguration) {
  setenv("BDH_GATEWAY_HTTP_LISTEN", "127.0.0.1:1", 1);
  setenv("BDH_OTHER", "stays", 1);
  Install("bdh-gateway", absl::StrFormat("env; %s", kGood));
  auto supervisor = Make();
  BDH_ASSERT_OK(supervisor->Start());
  supervisor->Stop();
  unsetenv("BDH_GATEWAY_HTTP_LISTEN");
  unsetenv("BDH_OTHER");
  BDH_ASSERT_OK_AND_ASSIGN(const std::string log, ReadFile(folder_.LogFile("bdh-gateway")));
  EXPECT_THAT(log, ::testing::Not(HasSubstr("BDH_GATEWAY_HTTP_LISTEN")));
  EXPECT_THAT(log, HasSubstr("BDH_OTHER=stays"));
  EXPECT_THAT(log, HasSubstr(absl::StrFormat("BDH_PARENT_PID=%d", getpid())));
}

}  // namespace
}  // namespace bdh::bdhctl
