// The scripts a newcomer runs first: setup names the packages and refuses what it does not know, quickstart
// goes from nothing to an answer and finds its work again, lint says what it misses.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bdh/testing/temp_directory.h"
#include "tests/e2e/mesh_driver.h"
#include "tests/e2e/subprocess.h"

namespace bdh::e2e {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Source(const std::string& path) {
  return std::string(BDH_SOURCE_DIR) + "/" + path;
}

class Setup : public ::testing::Test {
 protected:
  // Runs the script as on the release that /etc/os-release describes with `release`.
  Outcome On(const std::string& release, std::vector<std::string> flags = {"--list"}) const {
    const std::string file = folder_.path() + "/os-release";
    std::ofstream(file) << release;
    flags.insert(flags.begin(), Source("deploy/setup/debian.sh"));
    return Execute({.arguments = flags, .environment = {{"BDH_OS_RELEASE", file}}});
  }

  TempDirectory folder_;
};

TEST_F(Setup, KnowsTheNamesOfEachRelease) {
  const Outcome twelve = On("ID=debian\nVERSION_ID=\"12\"\n");
  EXPECT_EQ(twelve.exit_code, 0) << twelve.err;
  EXPECT_THAT(twelve.out, AllOf(HasSubstr("libboost1.81-dev\n"), HasSubstr("libtorch-dev\n"),
                                HasSubstr("librocksdb-dev\n"), Not(HasSubstr("untested"))));
  for (const char* newer : {"ID=debian\nVERSION_ID=\"13\"\n", "ID=ubuntu\nVERSION_ID=\"24.04\"\n"}) {
    const Outcome outcome = On(newer);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, AllOf(HasSubstr("libboost1.83-dev\n"), Not(HasSubstr("libboost1.81-dev"))));
    EXPECT_THAT(outcome.err, HasSubstr("untested"));
  }
}

TEST_F(Setup, RefusesAnOlderReleaseAndAnotherSystemWithASentence) {
  for (const char* older : {"ID=debian\nVERSION_ID=\"11\"\nPRETTY_NAME=\"Debian GNU/Linux 11 (bullseye)\"\n",
                            "ID=ubuntu\nVERSION_ID=\"22.04\"\nPRETTY_NAME=\"Ubuntu 22.04 LTS\"\n"}) {
    const Outcome outcome = On(older);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("is not supported"), HasSubstr("debian:12 container")));
  }
  EXPECT_THAT(On("ID=fedora\nPRETTY_NAME=Fedora\n").err, HasSubstr("Fedora is not Debian or Ubuntu"));
}

TEST_F(Setup, SaysWhatIsMissingWithoutInstallingIt) {
  // A package manager that knows two of them.
  const std::string query = folder_.path() + "/dpkg-query";
  std::ofstream(query) << "#!/bin/sh\nprintf 'cmake installed\\nlibtorch-dev installed\\n'\n";
  std::filesystem::permissions(query, std::filesystem::perms::owner_all);
  const Outcome outcome = Execute({.arguments = {"/usr/bin/env", "PATH=" + folder_.path() + ":/usr/bin:/bin",
                                                 Source("deploy/setup/debian.sh"), "--check"}});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("setup: missing: "), HasSubstr("librocksdb-dev"),
                                 Not(HasSubstr(" cmake ")), Not(HasSubstr("libtorch-dev"))));
}

TEST_F(Setup, TeachesItsFlags) {
  const Outcome outcome = On("ID=debian\nVERSION_ID=12\n", {"--what"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("--check"), HasSubstr("--list")));
}

TEST(Quickstart, GoesFromNothingToAnAnswerAndFindsItsWorkAgain) {
  const TempDirectory folder;
  const MeshDriver mesh(folder.path());
  Command quickstart = mesh.BdhctlAnywhere({});
  quickstart.arguments = {Source("deploy/quickstart.sh")};
  quickstart.environment["BDH_DATA"] = mesh.data();
  quickstart.environment["BDH_BIN"] = BDH_BIN_DIR;
  // The real one trains for two minutes; what it goes through is the same.
  quickstart.environment["BDH_TRAIN_MAX_STEPS"] = "12";
  quickstart.environment["BDH_TRAIN_WARMUP_STEPS"] = "2";
  const Outcome first = Execute(quickstart);
  ASSERT_EQ(first.exit_code, 0) << first.out << first.err;
  EXPECT_THAT(first.out, AllOf(HasSubstr("== Training a small BDH"), HasSubstr("Gen1:1 In the beginning God"),
                               HasSubstr("The mesh stays up at http://127.0.0.1:")));
  const Outcome second = Execute(quickstart);
  ASSERT_EQ(second.exit_code, 0) << second.out << second.err;
  EXPECT_THAT(second.out, AllOf(HasSubstr("The data set kjv is there already."),
                                HasSubstr("The run quickstart is finished already.")));
}

TEST(Lint, SaysHowToGetWhatItMisses) {
  const Outcome outcome =
      Execute({.arguments = {"/usr/bin/env", "PATH=/nowhere", "/bin/bash", "-c",
                             "dirname() { echo " + Source("deploy") + "; }; . " + Source("deploy/lint.sh")}});
  EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
  EXPECT_THAT(outcome.err,
              HasSubstr("clang-format is not installed: run BDH_LINT_TOOLS=1 deploy/setup/debian.sh"));
}

}  // namespace
}  // namespace bdh::e2e
