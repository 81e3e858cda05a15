// Processes are told apart by when they started, so that a pid which is used again is never signalled.
#include "services/bdhctl/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace bdh::bdhctl {
namespace {

// A child that waits for a signal.
pid_t StartSleeper() {
  const pid_t pid = fork();
  if (pid == 0) {
    while (true) pause();
  }
  return pid;
}

TEST(ProcessTest, ASignalReachesTheProcessThatWasMeant) {
  const pid_t pid = StartSleeper();
  const auto sleeper = Identify(pid);
  ASSERT_TRUE(sleeper.has_value());
  EXPECT_TRUE(IsAlive(*sleeper));
  EXPECT_FALSE(WaitUntilGone({*sleeper}, absl::Milliseconds(1)));
  EXPECT_TRUE(Signal(*sleeper, SIGKILL));
  // Not yet waited for: what is left of it counts as gone.
  EXPECT_TRUE(WaitUntilGone({*sleeper}, absl::Seconds(10)));
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(DescribeExit(status), "signal 9 (Killed)");
  EXPECT_FALSE(Signal(*sleeper, SIGKILL));
}

TEST(ProcessTest, APidThatIsUsedAgainIsNotSignalled) {
  const pid_t pid = StartSleeper();
  ProcessId other = *Identify(pid);
  --other.start_ticks;
  EXPECT_FALSE(IsAlive(other));
  EXPECT_FALSE(Signal(other, SIGKILL));
  EXPECT_TRUE(IsAlive(*Identify(pid)));
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

TEST(ProcessTest, NobodyHasAPidThatCannotBe) {
  EXPECT_FALSE(Identify(0).has_value());
  EXPECT_FALSE(Identify(-1).has_value());
  EXPECT_FALSE(Identify(1 << 30).has_value());
}

TEST(ProcessTest, TheFolderOfTheExecutableIsOurs) {
  EXPECT_EQ(access((ExecutableFolder() + "/bdhctl_test").c_str(), X_OK), 0);
}

}  // namespace
}  // namespace bdh::bdhctl
