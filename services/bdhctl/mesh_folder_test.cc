// A mesh's folder, its plan and the user's registry, on a real disk: what is written can be read again,
// secrets stay private, one mesh a folder, and every refusal is a sentence that says what to do.
#include "services/bdhctl/mesh_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "services/bdhctl/mesh_plan.h"
#include "services/bdhctl/registry.h"

namespace bdh::bdhctl {
namespace {

using ::testing::HasSubstr;

int ModeOf(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 ? info.st_mode & 0777 : -1;
}

// The state of a mesh whose supervisor is `supervisor`.
MeshState StateOf(const MeshFolder& folder, ProcessId supervisor) {
  MeshState state;
  state.data = folder.path();
  state.state = "up";
  state.version = "1.2.3";
  state.supervisor = supervisor;
  state.url = "http://127.0.0.1:8000";
  state.drain_timeout_seconds = 2.5;
  DaemonState daemon;
  daemon.name = "bdh-inference";
  daemon.state = "restarting";
  daemon.process = {4711, 99};
  daemon.address = "127.0.0.1:7041";
  daemon.restarts = 3;
  daemon.last_exit = "signal 9 (Killed)";
  state.daemons.push_back(daemon);
  return state;
}

class MeshFolderTest : public ::testing::Test {
 protected:
  ProcessId Me() const { return *Identify(getpid()); }

  TempDirectory temp_;
  MeshFolder folder_{temp_.path() + "/mesh"};
};

TEST_F(MeshFolderTest, OneFolderHasOneNameHoweverItIsReached) {
  BDH_ASSERT_OK(folder_.Create());
  std::filesystem::create_directory_symlink(folder_.path(), temp_.path() + "/link");
  EXPECT_EQ(MeshFolder(temp_.path() + "/link").path(), folder_.path());
  EXPECT_EQ(MeshFolder(folder_.path() + "/../mesh/").path(), folder_.path());
  EXPECT_EQ(MeshFolder("not-there-yet").path(), std::filesystem::current_path().string() + "/not-there-yet");
}

TEST_F(MeshFolderTest, TheTokenIsPrivateAndStays) {
  BDH_ASSERT_OK(folder_.Create());
  BDH_ASSERT_OK(folder_.EnsureToken());
  EXPECT_EQ(ModeOf(folder_.TokenFile()), 0600);
  BDH_ASSERT_OK_AND_ASSIGN(const std::string token, ReadFile(folder_.TokenFile()));
  EXPECT_EQ(token.size(), 65u);
  BDH_ASSERT_OK(folder_.EnsureToken());
  BDH_ASSERT_OK_AND_ASSIGN(const std::string again, ReadFile(folder_.TokenFile()));
  EXPECT_EQ(again, token);
}

TEST_F(MeshFolderTest, ASecondLockIsRefusedWithWhatToDo) {
  BDH_ASSERT_OK(folder_.Create());
  const auto lock = folder_.Lock();
  BDH_ASSERT_OK(lock.status());
  const auto second = folder_.Lock();
  ASSERT_TRUE(absl::IsFailedPrecondition(second.status()));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("bdhctl down --data " + folder_.path()));
}

TEST_F(MeshFolderTest, APathThatIsAFileIsRefusedWithWhatToDo) {
  BDH_ASSERT_OK(WriteFileAtomically(temp_.path() + "/file", "x"));
  const absl::Status status = MeshFolder(temp_.path() + "/file").Create();
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("choose another with --data"));
}

TEST_F(MeshFolderTest, AFolderThatIsNotWritableIsRefused) {
  constexpr uid_t kNobody = 65534;  // Root may write everywhere, so be somebody else for a moment.
  const uid_t user = geteuid();
  ASSERT_EQ(chmod(temp_.path().c_str(), 0500), 0);
  if (user == 0) {
    ASSERT_EQ(seteuid(kNobody), 0);
  }
  const absl::Status status = folder_.Create();
  ASSERT_EQ(seteuid(user), 0);
  ASSERT_EQ(chmod(temp_.path().c_str(), 0700), 0);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("make this one writable"));
}

TEST_F(MeshFolderTest, TheStateReadsBackAsItWasWritten) {
  BDH_ASSERT_OK(folder_.Create());
  const MeshState state = StateOf(folder_, Me());
  BDH_ASSERT_OK(folder_.WriteState(state));
  BDH_ASSERT_OK_AND_ASSIGN(const MeshState read, folder_.ReadRunningState());
  EXPECT_EQ(ToJson(read), ToJson(state));
}

TEST_F(MeshFolderTest, AMeshWhoseSupervisorIsGoneIsNotUp) {
  BDH_ASSERT_OK(folder_.Create());
  EXPECT_TRUE(absl::IsNotFound(folder_.ReadRunningState().status()));
  // Our pid, but of a process that started at another time: a pid that was used again.
  BDH_ASSERT_OK(folder_.WriteState(StateOf(folder_, {getpid(), 1})));
  EXPECT_TRUE(absl::IsNotFound(folder_.ReadRunningState().status()));
}

TEST_F(MeshFolderTest, AStateThatIsDamagedIsAnErrorNotACrash) {
  BDH_ASSERT_OK(folder_.Create());
  for (const char* damaged : {"", "{", "[]", "{\"data\": 7}", "null"}) {
    BDH_ASSERT_OK(WriteFileAtomically(folder_.StateFile(), damaged));
    EXPECT_TRUE(absl::IsDataLoss(folder_.ReadState().status())) << damaged;
  }
}

TEST_F(MeshFolderTest, ADaemonIsFoundByTheNamesThatPeopleUse) {
  for (const char* text : {"bdh-checkpoint-store", "checkpoint-store", "store"}) {
    BDH_ASSERT_OK_AND_ASSIGN(const std::string_view daemon, FindDaemon(text));
    EXPECT_EQ(daemon, "bdh-checkpoint-store") << text;
  }
  BDH_ASSERT_OK_AND_ASSIGN(const std::string_view trainer, FindDaemon("trainer"));
  EXPECT_EQ(trainer, "bdh-trainer-worker");
  for (const char* text : {"", "bdh", "checkpoint", "stores", "bdh-"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(FindDaemon(text).status())) << text;
  }
  EXPECT_THAT(std::string(FindDaemon("x").status().message()), HasSubstr("bdh-data-loader"));
}

TEST_F(MeshFolderTest, ThePlanPutsDataUnderTheFolderAndKeepsWhatAPersonChose) {
  v1::Config config;
  config.mutable_inference()->set_data_dir("/elsewhere/inference");
  config::FillDefaults(config);
  PlaceUnder(folder_, config);
  EXPECT_EQ(config.checkpoint_store().data_dir(), folder_.Path("checkpoint-store"));
  EXPECT_EQ(config.inference().data_dir(), "/elsewhere/inference");
  EXPECT_EQ(config.mesh().token_file(), folder_.TokenFile());
}

TEST_F(MeshFolderTest, EveryDaemonGetsPortsThatTheOthersKnow) {
  v1::Config config;
  config::FillDefaults(config);
  config.mutable_gateway()->set_http_listen("0.0.0.0:0");
  PortChooser ports;
  std::set<std::string> addresses;
  for (const std::string_view daemon : kDaemons) {
    BDH_ASSERT_OK(ChoosePorts(daemon, ports, config).status());
    const DaemonState state = PlannedState(daemon, config, folder_);
    EXPECT_TRUE(addresses.insert(state.address).second) << state.address;
    EXPECT_TRUE(addresses.insert(state.admin_address).second) << state.admin_address;
  }
  EXPECT_EQ(config.mesh().inference(), config.inference().listen());
  EXPECT_THAT(config.mesh().gateway_url(), ::testing::StartsWith("http://127.0.0.1:"));
  EXPECT_THAT(config.gateway().http_listen(), ::testing::StartsWith("0.0.0.0:"));
}

TEST_F(MeshFolderTest, TheRegistryFindsTheMeshThatWasStartedLastAndIsStillUp) {
  const Registry registry(temp_.path() + "/state");
  EXPECT_FALSE(registry.LastUp().has_value());
  const MeshFolder older(temp_.path() + "/older"), newer(temp_.path() + "/newer");
  for (const MeshFolder& mesh : {older, newer}) {
    BDH_ASSERT_OK(mesh.Create());
    BDH_ASSERT_OK(mesh.WriteState(StateOf(mesh, Me())));
    BDH_ASSERT_OK(registry.Remember(mesh));
    absl::SleepFor(absl::Milliseconds(20));  // File times tell which was last.
  }
  ASSERT_TRUE(registry.LastUp().has_value());
  EXPECT_EQ(registry.LastUp()->path(), newer.path());
  BDH_ASSERT_OK_AND_ASSIGN(const FileLock lock, newer.Lock());
  newer.RemoveState(lock);
  EXPECT_EQ(registry.LastUp()->path(), older.path());
  registry.Forget(older);
  EXPECT_FALSE(registry.LastUp().has_value());
}

}  // namespace
}  // namespace bdh::bdhctl
