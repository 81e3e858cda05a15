// A mesh's life on one machine: up, twice, beside another, in the foreground, after its supervisor was
// killed; and each way to get it wrong with a sentence and its exit code. In the end nobody is left.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <future>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/testing/temp_directory.h"
#include "tests/e2e/http_client.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

using ::testing::HasSubstr;

class UpDownE2E : public ::testing::Test {
 protected:
  TempDirectory folder_;
  MeshDriver mesh_{folder_.path()};
};

TEST_F(UpDownE2E, UpIsHealthyAndDownLeavesNobody) {
  const Outcome up = mesh_.Up();
  ASSERT_EQ(up.exit_code, 0) << up.err;
  EXPECT_THAT(up.out, HasSubstr("its gateway answers at http://127.0.0.1:"));
  EXPECT_EQ(mesh_.Do({"status"}).exit_code, 0);
  const std::vector<pid_t> processes = mesh_.Processes();
  ASSERT_EQ(processes.size(), 6u);
  for (const pid_t pid : processes) EXPECT_FALSE(IsGone(pid));
  EXPECT_EQ(mesh_.Do({"down"}).exit_code, 0);
  for (const pid_t pid : processes) EXPECT_TRUE(IsGone(pid));
  EXPECT_EQ(mesh_.Do({"status"}).exit_code, 3);
  EXPECT_THAT(mesh_.Ok({"down"}), HasSubstr("No mesh was up"));
}

TEST_F(UpDownE2E, ASecondUpOnTheFolderSaysThatItIsUp) {
  ASSERT_EQ(mesh_.Up().exit_code, 0);
  const std::vector<pid_t> processes = mesh_.Processes();
  const Outcome again = mesh_.Up();
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("already up"));
  const Outcome foreground = mesh_.Do({"up"});
  EXPECT_EQ(foreground.exit_code, 5);
  EXPECT_THAT(foreground.err, HasSubstr("a mesh is already up"));
  EXPECT_EQ(mesh_.Processes(), processes);
}

TEST_F(UpDownE2E, MeshesThatStartAtOnceTakeDifferentPortsAndNameThem) {
  ASSERT_EQ(mesh_.Up().exit_code, 0);
  const TempDirectory folder_b, folder_c;
  const MeshDriver b(folder_b.path()), c(folder_c.path());
  auto up_b = std::async(std::launch::async, [&] { return b.Up({"--json"}); });
  const Outcome up_c = c.Up({"--json"});
  const Outcome up = up_b.get();
  ASSERT_EQ(up.exit_code, 0) << up.err;
  ASSERT_EQ(up_c.exit_code, 0) << up_c.err;
  EXPECT_THAT(up.err, HasSubstr("is taken, so its HTTP port is"));
  const Json changed = Json::parse(up.out).at("ports_changed");
  ASSERT_FALSE(changed.empty());
  EXPECT_NE(changed.at(0).at("wanted"), changed.at(0).at("given"));
  for (const MeshDriver* mesh : std::vector<const MeshDriver*>{&mesh_, &b, &c}) {
    EXPECT_TRUE(mesh->WaitUntilHealthy()) << mesh->Status().dump(2);
    EXPECT_EQ(mesh->Status().at("data"), mesh->data());
  }
  EXPECT_NE(b.Status().at("url"), c.Status().at("url"));
}

TEST_F(UpDownE2E, InTheForegroundCtrlCEndsItInOrder) {
  Subprocess up(mesh_.Bdhctl({"up", "--set", "mesh.drain_timeout_seconds=5"}));
  ASSERT_TRUE(mesh_.WaitUntilHealthy());
  const std::vector<pid_t> processes = mesh_.Processes();
  up.Signal(SIGINT);
  const Outcome outcome = up.Wait(absl::Minutes(1));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("the mesh is down"));
  EXPECT_TRUE(AllGone(processes));
}

TEST_F(UpDownE2E, DaemonsDoNotOutliveASupervisorThatIsKilledAndUpWorksAgain) {
  ASSERT_EQ(mesh_.Up().exit_code, 0);
  const std::vector<pid_t> processes = mesh_.Processes();
  ASSERT_EQ(kill(processes[0], SIGKILL), 0);
  // At once, while the daemons of before may still drain.
  const Outcome again = mesh_.Up();
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_TRUE(AllGone(processes));
  EXPECT_TRUE(mesh_.WaitUntilHealthy());
}

TEST_F(UpDownE2E, DownClearsUpAfterASupervisorThatWasKilled) {
  ASSERT_EQ(mesh_.Up().exit_code, 0);
  const std::vector<pid_t> processes = mesh_.Processes();
  ASSERT_EQ(kill(processes[0], SIGKILL), 0);
  EXPECT_EQ(mesh_.Do({"down"}).exit_code, 0);
  for (const pid_t pid : processes) EXPECT_TRUE(IsGone(pid));
}

TEST_F(UpDownE2E, AFolderThatCannotBeIsRefusedWithWhatToDo) {
  std::ofstream(folder_.path() + "/file") << "not a folder";
  Command command = mesh_.BdhctlAnywhere({"up", "--detach", "--data", folder_.path() + "/file"});
  const Outcome outcome = Execute(command);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("choose another with --data"));
}

TEST_F(UpDownE2E, AnUnknownKeyIsNamedWithItsPlace) {
  const std::string file = folder_.path() + "/typo.yaml";
  std::ofstream(file) << "gateway:\n  http_lissten: 127.0.0.1:1\n";
  const Outcome outcome = mesh_.Up({"--config", file});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("typo.yaml:2:3"));
  EXPECT_THAT(outcome.err, HasSubstr("http_listen"));
  EXPECT_EQ(mesh_.Do({"config", "check", file}).exit_code, 2);
}

TEST_F(UpDownE2E, AnOpenGatewayWithoutKeysIsRefusedByTheGatewayAndNobodyIsLeft) {
  const Outcome outcome = mesh_.Up({"--set", "gateway.http_listen=0.0.0.0:0"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("bdh-gateway could not start"));
  EXPECT_THAT(outcome.err, HasSubstr("api_keys"));
  EXPECT_TRUE(mesh_.Processes().empty());
  EXPECT_EQ(mesh_.Do({"status"}).exit_code, 3);
}

TEST_F(UpDownE2E, KeysReachTheGatewayAndAreShownToNobody) {
  const Outcome up = mesh_.Up({"--set", "gateway.api_keys=[sesame]"});
  ASSERT_EQ(up.exit_code, 0) << up.err;
  const auto response = Get(mesh_.Status().at("url").get<std::string>() + "/v1/models");
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 401);
  EXPECT_THAT(mesh_.Ok({"config", "show"}), ::testing::Not(HasSubstr("sesame")));
}

TEST_F(UpDownE2E, WithTlsAllIsAsItWasAndWhoHasNoCertificateIsRefused) {
  const Outcome up = mesh_.Up({"--tls", "--set", "mesh.tls.reload_seconds=1"});
  ASSERT_EQ(up.exit_code, 0) << up.err;
  const std::string config = folder_.path() + "/tiny.yaml";
  std::ofstream(config) << "model: {n_layer: 1, n_embd: 16, n_head: 1, mlp_internal_dim_multiplier: 4}\n"
                           "train: {max_steps: 2, batch_size: 2, block_size: 16, eval_interval: 0}\n";
  mesh_.Ok({"data", "add", "words", "-"}, std::string(5000, 'w'));
  mesh_.Ok({"train", "start", "--dataset", "words", "--config", config, "--name", "tiny", "--tag", "tiny",
            "--watch"});
  mesh_.Ok({"models", "load", "tiny"});
  mesh_.Ok({"generate", "--model", "tiny", "--max-tokens", "3", "w"});
  const auto answer = Post(mesh_.Status().at("url").get<std::string>() + "/v1/completions",
                           R"({"model": "tiny", "prompt": "w", "max_tokens": 2})");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->status, 200) << answer->body;

  const Json before = mesh_.OkJson({"certs", "show"});
  EXPECT_TRUE(before.at("all_valid").get<bool>());
  EXPECT_EQ(before.at("certificates").size(), 7u) << "authority, five daemons, bdhctl";
  const Json after = mesh_.OkJson({"certs", "renew"});
  EXPECT_EQ(after.at("certificates").at(0), before.at("certificates").at(0)) << "the authority stays";
  EXPECT_NE(after.at("certificates").at(1), before.at("certificates").at(1));
  EXPECT_TRUE(mesh_.WaitUntilHealthy());

  // The token alone opens no door.
  const Json mesh = mesh_.OkJson({"config", "show"}).at("mesh");
  const std::string plain = folder_.path() + "/plain.yaml";
  std::ofstream(plain) << absl::StrFormat("mesh: {token_file: %s, data_loader: \"%s\"}\n",
                                          mesh.at("token_file").get<std::string>(),
                                          mesh.at("data_loader").get<std::string>());
  const Outcome refused = Execute(mesh_.BdhctlAnywhere({"data", "ls", "--config", plain}));
  EXPECT_EQ(refused.exit_code, 3) << refused.out;
}

TEST_F(UpDownE2E, HelpAndVersionNeedNoMesh) {
  EXPECT_THAT(Execute(mesh_.BdhctlAnywhere({"--help"})).out, HasSubstr("Exit codes"));
  EXPECT_EQ(Execute(mesh_.BdhctlAnywhere({"version", "--json"})).exit_code, 0);
  EXPECT_EQ(Execute(mesh_.BdhctlAnywhere({"--version"})).exit_code, 0);
}

}  // namespace
}  // namespace bdh::e2e
