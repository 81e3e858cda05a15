// Proves that what `cmake --install` ships is enough for others: the C++ and the Python examples are built
// from the installed tree alone, and both speak with a mesh of installed daemons, over TLS and with its
// token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bdh/testing/temp_directory.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kExamples = BDH_SOURCE_DIR "/docs/examples";
// The same folders each time: what has not changed is neither copied nor built again.
const std::string kFolder = BDH_INSTALL_FOLDER;
const std::string kPrefix = kFolder + "/prefix";

Outcome Program(std::vector<std::string> arguments, std::map<std::string, std::string> environment = {}) {
  return Execute({.arguments = std::move(arguments), .environment = std::move(environment)});
}

Outcome Shell(const std::string& script, std::map<std::string, std::string> environment = {}) {
  return Program({"/bin/sh", "-ec", script}, std::move(environment));
}

// A Python that has gRPC, or "".
std::string Python() {
  for (const char* python : {"/usr/bin/python3", "python3"}) {
    if (Shell(std::string(python) + " -c 'import grpc'").exit_code == 0) return python;
  }
  return "";
}

class InstallTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const Outcome install = Program({BDH_CMAKE, "--install", BDH_BUILD_DIR, "--prefix", kPrefix});
    ASSERT_EQ(install.exit_code, 0) << install.err;
    folder_ = std::make_unique<TempDirectory>();
    mesh_ = std::make_unique<MeshDriver>(folder_->path(), kPrefix + "/bin/bdhctl");
    const Outcome up = mesh_->Up({"--tls"});
    ASSERT_EQ(up.exit_code, 0) << up.err;
    ASSERT_TRUE(mesh_->WaitUntilHealthy());
    Serve();
    address_ = mesh_->Daemon("bdh-inference").value("address", "");
  }

  static void TearDownTestSuite() {
    mesh_.reset();
    folder_.reset();
  }

  // A model as small as they come, so that Generate has something to say.
  static void Serve() {
    std::string text;
    while (text.size() < 20'000) text += "the river runs over old stones and sings to the trees\n";
    mesh_->Ok({"data", "add", "rivers", "-"}, text);
    std::ofstream(folder_->path() + "/tiny.yaml")
        << "model: {n_layer: 1, n_embd: 16, n_head: 1, mlp_internal_dim_multiplier: 4}\n"
           "train: {max_steps: 2, batch_size: 2, block_size: 16, eval_interval: 0}\n";
    mesh_->Ok({"train", "start", "--dataset", "rivers", "--config", folder_->path() + "/tiny.yaml", "--name",
               "first", "--watch"});
    mesh_->Ok({"models", "load", "runs/first/steps/2", "--id", "river"});
  }

  static std::unique_ptr<TempDirectory> folder_;
  static std::unique_ptr<MeshDriver> mesh_;
  static std::string address_;
};

std::unique_ptr<TempDirectory> InstallTest::folder_;
std::unique_ptr<MeshDriver> InstallTest::mesh_;
std::string InstallTest::address_;

TEST_F(InstallTest, BinariesProtosAndConfigurationAreThere) {
  for (const char* path : {"bin/bdhctl", "bin/bdh-gateway", "bin/bdh-inference", "bin/bdh-data-loader",
                           "bin/bdh-checkpoint-store", "bin/bdh-trainer-worker",
                           "share/bdh/protos/bdh/v1/inference.proto", "share/bdh/configs/default.yaml",
                           "share/bdh/configs/bdh.schema.json", "include/bdh/v1/inference.grpc.pb.h"}) {
    EXPECT_TRUE(std::filesystem::exists(kPrefix + "/" + path)) << path;
  }
  const Outcome check =
      Program({kPrefix + "/bin/bdhctl", "config", "check", kPrefix + "/share/bdh/configs/default.yaml"});
  EXPECT_EQ(check.exit_code, 0) << check.err;
}

TEST_F(InstallTest, ACppProgramIsBuiltFromItAndSpeaksWithADaemon) {
  const std::string build = kFolder + "/cpp";
  const Outcome configure = Program({BDH_CMAKE, "-S", kExamples + "/cpp", "-B", build, "-G", "Ninja",
                                     "-DCMAKE_PREFIX_PATH=" + kPrefix, "-DCMAKE_CXX_COMPILER=" BDH_COMPILER,
                                     "-DCMAKE_CXX_FLAGS=" BDH_COMPILER_FLAGS});
  ASSERT_EQ(configure.exit_code, 0) << configure.out << configure.err;
  const Outcome built = Program({BDH_CMAKE, "--build", build});
  ASSERT_EQ(built.exit_code, 0) << built.out << built.err;

  const std::string program = build + "/bdh-models";
  const Outcome models = Program({program, address_, mesh_->data() + "/token", mesh_->data() + "/tls"});
  EXPECT_EQ(models.exit_code, 0) << models.err;
  EXPECT_THAT(models.out, StartsWith("bdh-inference "));
  EXPECT_THAT(models.out, HasSubstr("is ready\nriver from runs/first/steps/2, "));
  const std::string wrong = folder_->path() + "/wrong-token";
  std::ofstream(wrong) << "not-the-token\n";
  const Outcome refused = Program({program, address_, wrong, mesh_->data() + "/tls"});
  EXPECT_EQ(refused.exit_code, 1) << refused.out;
  EXPECT_THAT(refused.err, HasSubstr("token"));
}

TEST_F(InstallTest, AnotherMinorVersionIsNotTaken) {
  const std::string folder = folder_->path() + "/newer";
  std::filesystem::create_directory(folder);
  std::ofstream(folder + "/CMakeLists.txt")
      << "cmake_minimum_required(VERSION 3.25)\nproject(newer NONE)\nfind_package(bdh 0.2 REQUIRED)\n";
  const Outcome refused = Program(
      {BDH_CMAKE, "-S", folder, "-B", folder + "/build", "-G", "Ninja", "-DCMAKE_PREFIX_PATH=" + kPrefix});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_THAT(refused.err, HasSubstr("with requested version \"0.2\""));
}

TEST_F(InstallTest, APythonProgramIsMadeFromItsProtosAndSpeaksWithADaemon) {
  const std::string python = Python();
  if (python.empty()) GTEST_SKIP() << "no Python with grpc; on Debian: apt-get install python3-grpcio";
  const std::string modules = folder_->path() + "/python";
  const Outcome made =
      Shell("mkdir -p " + modules + "\nprotoc -I" + kPrefix + "/share/bdh/protos --python_out=" + modules +
            " --grpc_out=" + modules + " --plugin=protoc-gen-grpc=$(command -v grpc_python_plugin) " +
            kPrefix + "/share/bdh/protos/bdh/v1/*.proto");
  ASSERT_EQ(made.exit_code, 0) << made.err;

  const auto client = [&](const std::string& arguments) {
    return Shell(python + " " + kExamples + "/python/bdh_client.py --address " + address_ + " --token-file " +
                     mesh_->data() + "/token --tls " + mesh_->data() + "/tls " + arguments,
                 {{"PYTHONPATH", modules}, {"PYTHONDONTWRITEBYTECODE", "1"}});
  };
  const Outcome status = client("status");
  EXPECT_EQ(status.exit_code, 0) << status.err;
  EXPECT_THAT(status.out, HasSubstr("is ready"));
  const Outcome models = client("models");
  EXPECT_EQ(models.exit_code, 0) << models.err;
  EXPECT_THAT(models.out, StartsWith("river from runs/first/steps/2, "));

  const Outcome text = client("generate river 'the river ' --max-tokens 8 --temperature 0");
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("\n(10 + 8 tokens)\n"));
  const Json same = mesh_->OkJson(
      {"generate", "--model", "river", "the river ", "--max-tokens", "8", "--temperature", "0"});
  EXPECT_THAT(text.out, StartsWith(same.value("text", "(no text)"))) << "bdhctl says the same";

  const Outcome unknown = client("generate nobody x");
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_THAT(unknown.err, StartsWith("bdh_client: NOT_FOUND: "));
}

}  // namespace
}  // namespace bdh::e2e
