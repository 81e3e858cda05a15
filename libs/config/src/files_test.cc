// Proves that every file in configs/ loads, that default.yaml tells the truth, and that the table of keys in
// docs/api_reference/config.md and configs/bdh.schema.json are the schema's. To rewrite both after a change
// of it:
//
//   BDH_UPDATE_DOCS=1 config_test --gtest_filter='Docs.*'
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "bdh/base/file.h"
#include "bdh/config/config.h"
#include "bdh/config/reference.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::config {
namespace {

const std::string kRoot = BDH_SOURCE_DIR;
const std::string kPage = kRoot + "/docs/api_reference/config.md";
constexpr std::string_view kBegin = "<!-- generated from the schema: begin -->\n";
constexpr std::string_view kEnd = "<!-- generated from the schema: end -->\n";

absl::StatusOr<v1::Config> LoadShipped(const std::string& name) {
  LoadOptions options;
  options.file = kRoot + "/configs/" + name;
  return Load(options);
}

TEST(Configs, EveryFileLoads) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kRoot + "/configs")) {
    if (entry.path().extension() == ".yaml") names.insert(entry.path().filename());
  }
  for (const std::string& name : names) BDH_EXPECT_OK(LoadShipped(name));
  for (const char* name :
       {"default.yaml", "quickstart.yaml", "large.yaml", "data_loader.yaml", "trainer_worker.yaml",
        "checkpoint_store.yaml", "inference.yaml", "gateway.yaml"}) {
    EXPECT_EQ(names.count(name), 1u) << name;
  }
}

TEST(Configs, DefaultIsTheDefaultsAndSpellsOutAll) {
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Config defaults, Load({}));
  BDH_ASSERT_OK_AND_ASSIGN(const std::string yaml, ReadFile(kRoot + "/configs/default.yaml"));
  v1::Config written;
  BDH_ASSERT_OK(ReadYaml(yaml, "default.yaml", written));
  EXPECT_EQ(ToYaml(written), ToYaml(defaults));
  for (const char* key : {"token_file:", "models:", "api_keys:", "cors_allow_origin:"}) {
    EXPECT_NE(yaml.find(key), std::string::npos) << key << " has no default, but should be shown";
  }
}

TEST(Configs, LargeIsTheReferenceModelAndRecipe) {
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Config defaults, Load({}));
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Config large, LoadShipped("large.yaml"));
  EXPECT_EQ(ToYaml(large), ToYaml(defaults));
}

std::string WithBetween(const std::string& page, std::string_view begin, std::string_view end,
                        const std::string& text) {
  const size_t from = page.find(begin);
  const size_t to = page.find(end);
  if (from == std::string::npos || to == std::string::npos || to < from) return "";
  return page.substr(0, from + begin.size()) + text + page.substr(to);
}

TEST(Docs, TheSchemaForEditorsIsTheSchema) {
  const std::string path = kRoot + "/configs/bdh.schema.json";
  if (getenv("BDH_UPDATE_DOCS") != nullptr) BDH_ASSERT_OK(WriteFileAtomically(path, JsonSchema()));
  BDH_ASSERT_OK_AND_ASSIGN(const std::string now, ReadFile(path));
  EXPECT_TRUE(now == JsonSchema())
      << "the schema changed; run: BDH_UPDATE_DOCS=1 config_test --gtest_filter='Docs.*'";
}

TEST(Docs, TheTableOfKeysIsTheSchemas) {
  BDH_ASSERT_OK_AND_ASSIGN(const std::string page, ReadFile(kPage));
  const std::string fresh = WithBetween(page, kBegin, kEnd, MarkdownReference() + "\n");
  ASSERT_FALSE(fresh.empty()) << kPage << " lost the comments around its table";
  if (getenv("BDH_UPDATE_DOCS") != nullptr) BDH_ASSERT_OK(WriteFileAtomically(kPage, fresh));
  BDH_ASSERT_OK_AND_ASSIGN(const std::string now, ReadFile(kPage));
  EXPECT_TRUE(now == fresh)
      << "the schema changed; run: BDH_UPDATE_DOCS=1 config_test --gtest_filter='Docs.*'";
}

// The page shows a file and, below it, the errors of its lines: so they are made here.
TEST(Docs, TheErrorsShownAreReal) {
  BDH_ASSERT_OK_AND_ASSIGN(const std::string page, ReadFile(kPage));
  const std::pair<const char*, const char*> shown[] = {
      {"train:\n  max_stepps: 100\n", "my.yaml"},
      {"train:\n  max_steps: 12abc\n", "my.yaml"},
      {"train:\n  beta1: 1.5\n", "my.yaml"},
      {"train:\n  lr_schedule: cosin\n", "my.yaml"},
      {"train:\n  seed: 1\n  seed: 2\n", "my.yaml"},
      {"train:\n  max_steps: '100'\n", "my.yaml"},
      {"model:\n  block_size: 128\n", "my.yaml"},
      {"train:\n\tmax_steps: 100\n", "my.yaml"},
      {"gateway:\n  max_connections: 1k\n", "my.yaml"},
  };
  for (const auto& [yaml, origin] : shown) {
    v1::Config config;
    const absl::Status status = ReadYaml(yaml, origin, config);
    EXPECT_NE(page.find("\n" + std::string(status.message()) + "\n"), std::string::npos) << status.message();
  }
  const TempDirectory folder;
  std::ofstream(folder.path() + "/my.yaml") << "train:\n  lr_schedule: cosine\n  min_learning_rate: 0.01\n";
  LoadOptions options;
  options.file = folder.path() + "/my.yaml";
  const std::string broken(Load(options).status().message());
  EXPECT_NE(page.find("\n" + broken.substr(folder.path().size() + 1) + "\n"), std::string::npos) << broken;
  options.file.clear();
  options.sets = {"train.max_steps=0"};
  EXPECT_NE(page.find("\n" + std::string(Load(options).status().message()) + "\n"), std::string::npos);
  options.environment = {{"BDH_TRAIN_MAX_STEP", "100"}};
  EXPECT_NE(page.find("\n" + std::string(Load(options).status().message()) + "\n"), std::string::npos);
}

}  // namespace
}  // namespace bdh::config
