// Proves `bdhctl config` as a person meets it: the schema it prints is the file that editors read and names
// the keys of the reference page; check tells all at once; show and diff say what holds and why.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bdh/base/file.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "tests/e2e/mesh_driver.h"

namespace bdh::e2e {
namespace {

const std::string kRoot = BDH_SOURCE_DIR;

std::string FileText(const std::string& path) {
  const auto text = ReadFile(path);
  BDH_EXPECT_OK(text);
  return text.ok() ? *text : "";
}

class ConfigTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.path() + "/" + name) << text;
    return folder_.path() + "/" + name;
  }

  Outcome Config(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {Binary("bdhctl"), "config"});
    return Execute({.arguments = std::move(arguments)});
  }

  Json ConfigJson(std::vector<std::string> arguments) const {
    arguments.push_back("--json");
    return Json::parse(Config(std::move(arguments)).out, nullptr, /*allow_exceptions=*/false);
  }

  TempDirectory folder_;
};

TEST_F(ConfigTest, TheSchemaIsTheFileForEditorsAndHasTheKeysOfTheDocsPage) {
  const Outcome schema = Config({"schema"});
  EXPECT_EQ(schema.exit_code, 0) << schema.err;
  EXPECT_EQ(schema.out, FileText(kRoot + "/configs/bdh.schema.json"));
  const std::string page = FileText(kRoot + "/docs/api_reference/config.md");
  const Json parsed = Json::parse(schema.out);
  size_t keys = 0;
  for (const auto& [section, below] : parsed.at("properties").items()) {
    if (section == "extends") continue;
    for (const auto& [key, value] : below.at("properties").items()) {
      if (value.contains("properties")) continue;  // Its keys have rows of their own.
      ++keys;
      const std::string row = "| `" + section + "." + key + "` |";
      const size_t at = page.find(row);
      ASSERT_NE(at, std::string::npos) << row;
      if (!value.contains("description")) continue;
      const std::string line = page.substr(at, page.find('\n', at) - at);
      EXPECT_NE(line.find(value["description"].get<std::string>()), std::string::npos) << line;
    }
  }
  EXPECT_GT(keys, 50u);
}

TEST_F(ConfigTest, CheckTellsAllProblemsAtOnce) {
  const std::string file = Write("my.yaml", "train:\n  beta1: 2\n  max_stepps: 3\n");
  const Outcome wrong = Config({"check", file});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_EQ(wrong.err, file + ":2:10: train.beta1: is 2; want 0 to 0.999999\n" + file +
                           ":3:3: train.max_stepps: unknown key; did you mean max_steps?\n" +
                           "bdhctl: 2 problems in " + file + "\n");
  const Json json = ConfigJson({"check", file});
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["problems"].size(), 2u);
  EXPECT_EQ(Config({"check", kRoot + "/configs/large.yaml"}).exit_code, 0);
  const std::string fine = Write("fine.yaml", "train: {max_steps: 3}\n");
  Command command{.arguments = {Binary("bdhctl"), "config", "check", fine, "--environment"},
                  .environment = {{"BDH_TRAIN_SEED", "x"}}};
  EXPECT_EQ(Execute(command).exit_code, 2);
}

TEST_F(ConfigTest, ShowSaysWhereValuesComeFrom) {
  Write("base.yaml", "train:\n  batch_size: 2\n");
  const std::string file = Write("my.yaml", "extends: base.yaml\ntrain: {max_steps: 5k}\n");
  const Json shown = ConfigJson({"show", "--config", file, "--origin", "--set", "train.seed=1"});
  EXPECT_EQ(shown["config"]["train"]["max_steps"], 5000);
  EXPECT_EQ(shown["origins"]["train.max_steps"], file + ":2");
  EXPECT_EQ(shown["origins"]["train.batch_size"], folder_.path() + "/base.yaml:2");
  EXPECT_EQ(shown["origins"]["train.seed"], "--set");
  EXPECT_EQ(shown["origins"]["train.beta1"], "default");
  // What is printed is a configuration again.
  const std::string printed = Write("printed.yaml", Config({"show", "--config", file, "--origin"}).out);
  EXPECT_EQ(Config({"diff", file, printed}).out, file + " and " + printed + " say the same.\n");
}

TEST_F(ConfigTest, DiffNamesWhatDiffersAndNoSecret) {
  const std::string keys = Write("keys", "hunter2\n");
  std::filesystem::permissions(keys, std::filesystem::perms(0600));
  const std::string file = Write("my.yaml", "gateway: {api_keys: {file: keys}, ping_seconds: 1m}\n");
  const Json diff = ConfigJson({"diff", file});
  ASSERT_EQ(diff["differences"].size(), 2u) << diff;
  EXPECT_EQ(diff["differences"][0]["right"], "[\"***\"]");
  EXPECT_EQ(diff["differences"][1], (Json{{"key", "gateway.ping_seconds"}, {"left", "15"}, {"right", "60"}}));
  for (const std::string command : {"show", "check", "diff"}) {
    std::vector<std::string> arguments{command, file};
    if (command == "show") arguments = {"show", "--config", file, "--origin"};
    const Outcome outcome = Config(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ((outcome.out + outcome.err).find("hunter2"), std::string::npos) << command;
  }
}

}  // namespace
}  // namespace bdh::e2e
