// A daemon's life as its process shows it: each way to end it and the exit code of that, from the first
// signal to the drain that does not end. Every case is a process of its own that runs RunDaemon with a daemon
// made for it.
#include "bdh/mesh/daemon.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <iostream>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/base/log.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::mesh {
namespace {

using ::testing::ExitedWithCode;

void Await(const std::function<bool()>& condition) {
  while (!condition()) absl::SleepFor(absl::Milliseconds(5));
}

// A daemon of which only its drain matters.
class Scripted final : public Daemon {
 public:
  explicit Scripted(std::function<void(absl::Duration)> drain) : drain_(std::move(drain)) {}
  const std::string& address() const override { return address_; }
  const std::string& admin_address() const override { return address_; }
  void Drain(absl::Duration timeout) override { drain_(timeout); }

 private:
  const std::string address_ = "127.0.0.1:1";
  const std::function<void(absl::Duration)> drain_;
};

class DaemonDeathTest : public ::testing::Test {
 protected:
  using Start = std::function<absl::Status()>;
  using Drain = std::function<void(absl::Duration)>;

  // Ends this process with the exit code of a daemon that starts and drains so.
  [[noreturn]] void Run(const Start& start, const Drain& drain, bool leaves_last = false,
                        std::vector<std::string> arguments = {"--set", "mesh.drain_timeout_seconds=0"}) {
    arguments.insert(arguments.begin(), "bdh-test");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    const DaemonSpec spec{.name = "bdh-test",
                          .summary = "Tests.",
                          .start = [&](const auto&...) -> absl::StatusOr<std::unique_ptr<Daemon>> {
                            if (const absl::Status status = start(); !status.ok()) return status;
                            return std::make_unique<Scripted>(drain);
                          },
                          .leaves_last = leaves_last};
    exit(RunDaemon(static_cast<int>(argv.size()), argv.data(), spec));
  }

  static absl::Status Signalled(int signal_number) {
    kill(getpid(), signal_number);
    return absl::OkStatus();
  }
  static void Nothing(absl::Duration) {}
  [[noreturn]] static void ForEver(absl::Duration) {
    while (true) pause();
  }

  // A process that has ended, as a daemon sees a supervisor that was killed.
  static void BeLeftByParent() {
    const pid_t parent = fork();
    if (parent == 0) _exit(0);
    waitpid(parent, nullptr, 0);
    setenv("BDH_PARENT_PID", std::to_string(parent).c_str(), 1);
  }
};

TEST_F(DaemonDeathTest, ASignalDrainsAndEndsWithZero) {
  for (const int signal_number : {SIGTERM, SIGINT, SIGHUP}) {
    EXPECT_EXIT(
        Run([=] { return Signalled(signal_number); }, [](absl::Duration) { BDH_LOG(INFO) << "drained"; }),
        ExitedWithCode(0), "drained");
  }
}

TEST_F(DaemonDeathTest, ASignalThatAThreadOfALibraryGetsIsAnsweredToo) {
  EXPECT_EXIT(
      {
        // As OpenBLAS makes them before main: it blocks no signal.
        std::atomic<bool> signalled = false;
        std::thread([&signalled] {
          while (!signalled) absl::SleepFor(absl::Milliseconds(1));
          pthread_kill(pthread_self(), SIGTERM);
          while (true) pause();
        }).detach();
        Run(
            [&] {
              signalled = true;
              return absl::OkStatus();
            },
            Nothing);
      },
      ExitedWithCode(0), "reason=signal 15");
}

TEST_F(DaemonDeathTest, WhatCannotStartSaysWhyAndEndsWithOne) {
  EXPECT_EXIT(Run([] { return absl::UnavailableError("the port is taken"); }, Nothing), ExitedWithCode(1),
              "bdh-test: the port is taken");
}

TEST_F(DaemonDeathTest, ABadConfigurationEndsWithTwo) {
  EXPECT_EXIT(Run([] { return absl::InvalidArgumentError("gateway.api_keys is wrong"); }, Nothing),
              ExitedWithCode(2), "gateway.api_keys is wrong");
  EXPECT_EXIT(Run([] { return absl::OkStatus(); }, Nothing, false, {"--set", "mesh.no_such_key=1"}),
              ExitedWithCode(2), "no_such_key");
  EXPECT_EXIT(Run([] { return absl::OkStatus(); }, Nothing, false, {"--no-such-flag"}), ExitedWithCode(2),
              "");
}

TEST_F(DaemonDeathTest, ASecondSignalWhileItDrainsEndsItAtOnceWithThree) {
  EXPECT_EXIT(Run([] { return Signalled(SIGTERM); },
                  [](absl::Duration) {
                    kill(getpid(), SIGTERM);
                    ForEver({});
                  }),
              ExitedWithCode(3), "leaving at once");
}

TEST_F(DaemonDeathTest, ASecondSignalWhileItStartsEndsItAtOnceWithThree) {
  EXPECT_EXIT(Run(
                  []() -> absl::Status {
                    // The kernel makes one of two that wait, so the second is another.
                    kill(getpid(), SIGTERM);
                    kill(getpid(), SIGINT);
                    ForEver({});
                  },
                  Nothing),
              ExitedWithCode(3), "leaving at once");
}

TEST_F(DaemonDeathTest, ADrainThatDoesNotEndIsCutOffWithFour) {
  EXPECT_EXIT(Run([] { return Signalled(SIGTERM); }, ForEver), ExitedWithCode(4), "the drain is overdue");
}

TEST_F(DaemonDeathTest, TheDeathOfItsSupervisorIsAReasonToLeave) {
  EXPECT_EXIT(
      {
        BeLeftByParent();
        Run([] { return absl::OkStatus(); }, Nothing);
      },
      ExitedWithCode(0), "the supervisor is gone");
}

TEST_F(DaemonDeathTest, ASignalAfterItsSupervisorsDeathIsTheFirst) {
  EXPECT_EXIT(
      {
        BeLeftByParent();
        Run([] { return absl::OkStatus(); },
            [](absl::Duration) {
              // As `bdhctl down` does, which finds daemons that leave already. A second one would end it
              // with 3.
              kill(getpid(), SIGTERM);
              absl::SleepFor(absl::Milliseconds(100));
            });
      },
      ExitedWithCode(0), "left daemon");
}

TEST_F(DaemonDeathTest, WhoLeavesLastWaitsForTheOthersUnlessItIsToldThatTheyAreGone) {
  EXPECT_EXIT(
      {
        BeLeftByParent();
        Run([] { return Signalled(SIGTERM); }, Nothing, /*leaves_last=*/true,
            {"--set", "mesh.drain_timeout_seconds=3000"});
      },
      ExitedWithCode(0), "reason=signal 15");
}

TEST_F(DaemonDeathTest, SighupOpensARotatedLogAgain) {
  const TempDirectory folder;
  const std::string log = folder.path() + "/log";
  const auto log_anew = [&]() -> absl::Status {
    kill(getpid(), SIGHUP);
    Await([&] { return std::filesystem::exists(log); });
    // The signal's thread has opened the file and points standard error to it next.
    Await([&] {
      BDH_LOG(INFO) << "in the new file";
      return std::filesystem::file_size(log) > 0;
    });
    return Signalled(SIGTERM);
  };
  EXPECT_EXIT(
      {
        setenv("BDH_LOG_FILE", log.c_str(), 1);
        Run(log_anew, Nothing);
      },
      ExitedWithCode(0), "");
  const auto text = ReadFile(log);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_NE(text->find("in the new file"), std::string::npos);
}

}  // namespace
}  // namespace bdh::mesh
