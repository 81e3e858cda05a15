// Proves that --set and BDH_* variables reach every key of the schema, and that a slip in one is an error
// that names it.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "overrides.h"

namespace bdh::config {
namespace {

std::string SetError(std::string_view assignment) {
  v1::Config config;
  return std::string(Set(assignment, "--set", config).message());
}

v1::Config AfterSet(std::string_view assignment) {
  v1::Config config;
  BDH_EXPECT_OK(Set(assignment, "--set", config));
  return config;
}

absl::StatusOr<v1::Config> FromEnvironment(std::map<std::string, std::string> environment) {
  LoadOptions options;
  options.environment = std::move(environment);
  return Load(options);
}

std::string EnvironmentError(const std::string& name, const std::string& value) {
  return std::string(FromEnvironment({{name, value}}).status().message());
}

TEST(Set, ReachesScalarsListsAndSections) {
  EXPECT_EQ(AfterSet("train.max_steps=100").train().max_steps(), 100);
  EXPECT_EQ(AfterSet("train.learning_rate=1e-3").train().learning_rate(), 0.001);
  EXPECT_TRUE(AfterSet("gateway.insecure=true").gateway().insecure());
  const v1::Config keys = AfterSet("gateway.api_keys=[a,'b c']");
  ASSERT_EQ(keys.gateway().api_keys_size(), 2);
  EXPECT_EQ(keys.gateway().api_keys(1), "b c");
  EXPECT_EQ(AfterSet("train={max_steps: 7, seed: 1}").train().max_steps(), 7);
}

TEST(Set, TextStandsAsItIsUnlessQuoted) {
  EXPECT_EQ(AfterSet("gateway.cors_allow_origin=*").gateway().cors_allow_origin(), "*");
  EXPECT_EQ(AfterSet("mesh.token_file=a: b #c").mesh().token_file(), "a: b #c");
  EXPECT_EQ(AfterSet("mesh.token_file=a=b").mesh().token_file(), "a=b");
  EXPECT_EQ(AfterSet("mesh.token_file=").mesh().token_file(), "");
  EXPECT_EQ(AfterSet("mesh.token_file=\"a\\n\"").mesh().token_file(), "a\n");
}

TEST(Set, TheLastOneCounts) {
  v1::Config config = AfterSet("inference.models=[a, b]");
  BDH_EXPECT_OK(Set("inference.models=[c]", "--set", config));
  EXPECT_EQ(config.inference().models_size(), 1);
}

TEST(Set, BadAssignmentsNameTheKey) {
  const std::pair<const char*, const char*> table[] = {
      {"train", "--set: want section.key=value, like train.max_steps=100"},
      {"", "--set: want section.key=value, like train.max_steps=100"},
      {"=3", "--set: want section.key=value, like train.max_steps=100"},
      {"train.max_stepps=3", "--set: train.max_stepps: unknown key; did you mean max_steps?"},
      {"max_steps=3", "--set: max_steps: unknown key; did you mean train.max_steps?"},
      {"train.max_steps.x=4", "--set: train.max_steps: holds a value, so there is no x in it"},
      {"train.max_steps=",
       "--set: train.max_steps: has no value; want an integer, 1 to 1000000000 steps; or leave the key out"},
      {"train.max_steps=0", "--set: train.max_steps: is 0; want 1 to 1000000000 steps"},
      {"train.max_steps=[1]", "--set: train.max_steps: is a list; want an integer, 1 to 1000000000 steps"},
      {"train={max_steps: 0}", "--set: train.max_steps: is 0; want 1 to 1000000000 steps"},
      {"train=3", "--set: train: is text; want keys and values"},
      {"train.lr_schedule=cubic", "--set: train.lr_schedule: is \"cubic\"; want constant, linear or cosine"},
      {"gateway.api_keys=hunter2",
       "--set: gateway.api_keys: is a single value; want a list, like [a, b], {file: PATH} or {env: NAME}"},
      {"gateway.api_keys=[hunter2",
       "--set: gateway.api_keys: not valid YAML: end of sequence flow not found"},
      {"mesh.token_file='a", "--set: mesh.token_file: not valid YAML: illegal EOF in scalar"},
      {"mesh.token_file=\xff", "--set: mesh.token_file: is not UTF-8 text"},
  };
  for (const auto& [assignment, message] : table) EXPECT_EQ(SetError(assignment), message) << assignment;
}

TEST(EnvironmentVariables, ReachEveryKeyThoughNamesHaveUnderscores) {
  for (const Leaf& leaf : Leaves(*v1::Config::descriptor())) {
    std::string name = "BDH_" + leaf.path;
    for (char& c : name) c = c == '.' ? '_' : static_cast<char>(toupper(c));
    // No field takes a map; an error about the key shows that the name was understood.
    const std::string error = EnvironmentError(name, leaf.field->is_repeated() ? "{}" : "'\\x'");
    if (leaf.field->cpp_type() == FieldDescriptor::CPPTYPE_STRING && !leaf.field->is_repeated() &&
        error.empty())
      continue;
    EXPECT_EQ(error.substr(0, name.size() + leaf.path.size() + 2), name + ": " + leaf.path);
  }
}

TEST(EnvironmentVariables, AreReadAsValues) {
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Config config,
                           FromEnvironment({{"BDH_TRAIN_MAX_STEPS", "100"},
                                            {"BDH_TRAINER_WORKER_THREADS", "2"},
                                            {"BDH_GATEWAY_API_KEYS", "[a, b]"},
                                            {"BDH_MESH_GATEWAY_URL", "https://h:1"}}));
  EXPECT_EQ(config.train().max_steps(), 100);
  EXPECT_EQ(config.trainer_worker().threads(), 2);
  EXPECT_EQ(config.gateway().api_keys_size(), 2);
  EXPECT_EQ(config.mesh().gateway_url(), "https://h:1");
}

TEST(EnvironmentVariables, ASlipIsAnError) {
  EXPECT_EQ(EnvironmentError("BDH_TRAIN_MAX_STEPS", "many"),
            "BDH_TRAIN_MAX_STEPS: train.max_steps: is \"many\"; want an integer, 1 to 1000000000 steps");
  EXPECT_EQ(
      EnvironmentError("BDH_TRAIN_MAX_STEP", "1"),
      "BDH_TRAIN_MAX_STEP: the environment sets this variable, but no key of the configuration has that "
      "name; did you mean BDH_TRAIN_MAX_STEPS?");
  EXPECT_EQ(EnvironmentError("BDH_MODEL", "1"),
            "BDH_MODEL: the environment sets this variable, but no key of the configuration has that name; "
            "unset it");
}

TEST(EnvironmentVariables, OthersAreNoneOfOurBusiness) {
  // The middle ones are what Kubernetes gives every pod beside a service called bdh-gateway.
  for (const char* name : {"BDH_STATE_DIR", "BDH_PARENT_PID", "BDH_TRAINING", "PATH",
                           "BDH_GATEWAY_SERVICE_HOST", "BDH_GATEWAY_PORT", "BDH_GATEWAY_SERVICE_PORT",
                           "BDH_GATEWAY_SERVICE_PORT_HTTP", "BDH_DATA_LOADER_PORT_7011_TCP",
                           "BDH_GATEWAY_PORT_8000_TCP_ADDR", "BDH_INFERENCE_PORT_7041_TCP_PROTO"}) {
    EXPECT_EQ(EnvironmentError(name, "tcp://10.0.0.1:80"), "") << name;
  }
}

TEST(EnvironmentVariables, ComeFromTheProcess) {
  ASSERT_EQ(setenv("BDH_TRAIN_SEED", "5=6", 1), 0);
  const auto environment = Environment();
  unsetenv("BDH_TRAIN_SEED");
  EXPECT_EQ(environment.at("BDH_TRAIN_SEED"), "5=6");
  EXPECT_EQ(environment.count("PATH"), 0u);
  EXPECT_EQ(Environment().count("BDH_TRAIN_SEED"), 0u);
}

TEST(Load, SetsOverrideTheEnvironmentWhichOverridesTheFile) {
  const TempDirectory folder;
  LoadOptions options;
  options.file = folder.path() + "/c.yaml";
  std::ofstream(options.file) << "train: {max_steps: 1, batch_size: 1, block_size: 2}\n";
  options.environment = {{"BDH_TRAIN_BATCH_SIZE", "5"}, {"BDH_TRAIN_BLOCK_SIZE", "5"}};
  options.sets = {"train.block_size=6", "train.block_size=7"};
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Config config, Load(options));
  EXPECT_EQ(config.train().max_steps(), 1);
  EXPECT_EQ(config.train().batch_size(), 5);
  EXPECT_EQ(config.train().block_size(), 7);
  EXPECT_EQ(config.train().seed(), 1337u);
}

TEST(Load, FilesThatCannotBeReadAreNamed) {
  const TempDirectory folder;
  LoadOptions options;
  options.file = folder.path() + "/nothing.yaml";
  const auto missing = Load(options).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(missing.message(), "read configuration " + options.file + ": No such file or directory");
  options.file = folder.path();
  EXPECT_EQ(Load(options).status().message(), "read configuration " + options.file + ": Is a directory");
  options.file = "/dev/zero";
  EXPECT_EQ(Load(options).status().message(),
            "/dev/zero: is larger than 1.0 MiB, the most a configuration may have");
}

}  // namespace
}  // namespace bdh::config
