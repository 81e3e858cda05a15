// Proves what `extends` composes and in which order, that errors name the file they are in, and that no chain
// of files goes on for ever.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::config {
namespace {

class ExtendsTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }

  void Write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(Path(name)).parent_path());
    std::ofstream(Path(name)) << text;
  }

  v1::Config LoadFile(const std::string& name) const {
    const auto config = Load({.file = Path(name), .sets = {}, .environment = {}});
    BDH_EXPECT_OK(config);
    return config.ok() ? *config : v1::Config();
  }

  // With the folder's own name left out.
  std::string ErrorOf(const std::string& name) const {
    std::string message(Load({.file = Path(name), .sets = {}, .environment = {}}).status().message());
    for (size_t at; (at = message.find(folder_.path() + "/")) != std::string::npos;) {
      message.erase(at, folder_.path().size() + 1);
    }
    return message;
  }

  TempDirectory folder_;
};

TEST_F(ExtendsTest, TheFileOverridesItsBasesAndLaterBasesEarlierOnes) {
  Write("a.yaml", "train: {max_steps: 1, batch_size: 1, block_size: 11}\ninference: {models: [a, b]}");
  Write("b.yaml", "train: {max_steps: 2, batch_size: 2}");
  Write("my.yaml", "train: {max_steps: 3}\nextends: [a.yaml, b.yaml]\ninference: {models: [c]}");
  const v1::Config config = LoadFile("my.yaml");
  EXPECT_EQ(config.train().max_steps(), 3);
  EXPECT_EQ(config.train().batch_size(), 2);
  EXPECT_EQ(config.train().block_size(), 11);
  ASSERT_EQ(config.inference().models_size(), 1) << "a list is replaced, not added to";
}

TEST_F(ExtendsTest, NamesAreRelativeToTheFileThatHasThem) {
  Write("base/common.yaml", "train: {max_steps: 5}");
  Write("base/site.yaml", "extends: common.yaml");
  Write("mine/my.yaml", "extends: ../base/site.yaml");
  EXPECT_EQ(LoadFile("mine/my.yaml").train().max_steps(), 5);
  Write("absolute.yaml", "extends: " + Path("base/common.yaml"));
  EXPECT_EQ(LoadFile("absolute.yaml").train().max_steps(), 5);
}

TEST_F(ExtendsTest, TwoBasesMayShareOne) {
  Write("root.yaml", "train: {max_steps: 5}");
  Write("a.yaml", "extends: root.yaml\ntrain: {batch_size: 7}");
  Write("b.yaml", "extends: root.yaml\ntrain: {block_size: 9}");
  Write("my.yaml", "extends: [a.yaml, b.yaml]");
  const v1::Config config = LoadFile("my.yaml");
  EXPECT_EQ(config.train().batch_size() + config.train().block_size(), 16);
}

TEST_F(ExtendsTest, VariablesAndSetsOverrideThemAll) {
  Write("base.yaml", "train: {max_steps: 5, batch_size: 5}");
  Write("my.yaml", "extends: base.yaml");
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Config config, Load({.file = Path("my.yaml"),
                                                          .sets = {"train.max_steps=7"},
                                                          .environment = {{"BDH_TRAIN_BATCH_SIZE", "8"}}}));
  EXPECT_EQ(config.train().max_steps(), 7);
  EXPECT_EQ(config.train().batch_size(), 8);
}

TEST_F(ExtendsTest, ErrorsNameTheFileTheyAreIn) {
  Write("base.yaml", "train:\n  max_stepps: 5\n");
  Write("my.yaml", "# mine\nextends: base.yaml\n");
  EXPECT_EQ(ErrorOf("my.yaml"), "base.yaml:2:3: train.max_stepps: unknown key; did you mean max_steps?");
  Write("gone.yaml", "extends: nothing.yaml\n");
  EXPECT_EQ(ErrorOf("gone.yaml"),
            "gone.yaml:1:10: extends: read configuration nothing.yaml: No such file or directory");
  Write("map.yaml", "extends: {a: b}\n");
  EXPECT_EQ(ErrorOf("map.yaml"),
            "map.yaml:1:10: extends: want a file, or a list of files, like [base.yaml, site.yaml]");
  Write("empty.yaml", "extends: ~\n");
  EXPECT_EQ(ErrorOf("empty.yaml"),
            "empty.yaml:1:10: extends: want a file, or a list of files, like [base.yaml, site.yaml]");
  Write("inner.yaml", "train: {extends: base.yaml}\n");
  EXPECT_EQ(ErrorOf("inner.yaml"),
            "inner.yaml:1:9: train.extends: unknown key; it belongs to the top level of a file");
  Write("twice.yaml", "extends: inner2.yaml\nextends: inner2.yaml\n");
  Write("inner2.yaml", "{}");
  EXPECT_EQ(ErrorOf("twice.yaml"), "twice.yaml:2:1: extends: given twice; first on line 1");
}

TEST_F(ExtendsTest, CirclesAreRefusedHoweverTheyAreSpelled) {
  Write("self.yaml", "extends: ./self.yaml\n");
  EXPECT_EQ(ErrorOf("self.yaml"),
            "self.yaml:1:10: extends: self.yaml is being read already: files extend one another in a circle");
  Write("a.yaml", "extends: sub/b.yaml\n");
  Write("sub/b.yaml", "extends: ../link.yaml\n");
  std::filesystem::create_symlink(Path("a.yaml"), Path("link.yaml"));
  EXPECT_EQ(
      ErrorOf("a.yaml"),
      "sub/b.yaml:1:10: extends: link.yaml is being read already: files extend one another in a circle");
}

TEST_F(ExtendsTest, ChainsAndFilesAreBounded) {
  Write("0.yaml", "train: {max_steps: 5}");
  for (int i = 1; i <= 8; ++i) {
    Write(std::to_string(i) + ".yaml", "extends: " + std::to_string(i - 1) + ".yaml\n");
  }
  EXPECT_EQ(LoadFile("7.yaml").train().max_steps(), 5);
  EXPECT_EQ(ErrorOf("8.yaml"), "1.yaml:1:10: extends: more than 8 files, each extending the next");
  // Each doubles the one before: without a bound that would be 2^7 readings.
  for (int i = 1; i <= 7; ++i) {
    const std::string before = std::to_string(i - 1) + ".yaml";
    Write(std::to_string(i) + ".yaml", "extends: [" + before + ", " + before + "]\n");
  }
  EXPECT_NE(ErrorOf("7.yaml").find("extends: more than 32 files"), std::string::npos) << ErrorOf("7.yaml");
}

TEST_F(ExtendsTest, ReadFileIntoHasWhatFilesGaveAndNoDefaults) {
  Write("base.yaml", "train: {max_steps: 5}");
  Write("my.yaml", "extends: base.yaml");
  v1::Config config;
  BDH_ASSERT_OK(ReadFileInto(Path("my.yaml"), config));
  EXPECT_EQ(ToYaml(config), "train:\n  max_steps: 5\n");
}

}  // namespace
}  // namespace bdh::config
