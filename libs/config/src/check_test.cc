// Proves what `bdhctl config` builds on: all problems at once, where each value came from, what differs; and
// that the schema for editors says yes and no as this library does.
#include <gtest/gtest.h>
#include <regex.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "bdh/base/file.h"
#include "bdh/config/config.h"
#include "bdh/config/reference.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "document.h"

namespace bdh::config {
namespace {

using Json = nlohmann::json;

class CheckTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& text) const {
    std::ofstream(folder_.path() + "/my.yaml") << text;
    return folder_.path() + "/my.yaml";
  }

  TempDirectory folder_;
};

TEST_F(CheckTest, AllProblemsComeAtOnce) {
  const std::string file = Write(
      "train:\n  max_stepps: 3\n  beta1: 1.5\n  seed: 1\n  seed: 2\nmodel:\n  n_head: 3\ninference:\n"
      "  models: [a, [b], {c: d}]\n");
  const std::vector<std::string> problems = Problems(
      {.file = file, .sets = {"train.max_steps=0", "nonsense"}, .environment = {{"BDH_TRAIN_SEEED", "1"}}});
  const std::vector<std::string> wanted = {
      file + ":2:3: train.max_stepps: unknown key; did you mean max_steps?",
      file + ":3:10: train.beta1: is 1.5; want 0 to 0.999999",
      file + ":5:3: train.seed: given twice; first on line 4",
      file + ":9:15: inference.models[1]: is a list; want text",
      file + ":9:20: inference.models[2]: is a map; want text",
      "BDH_TRAIN_SEEED: the environment sets this variable, but no key of the configuration has that name; "
      "did "
      "you mean BDH_TRAIN_SEED?",
      "--set: train.max_steps: is 0; want 1 to 1000000000 steps",
      "--set: want section.key=value, like train.max_steps=100",
      file +
          ":7: model.n_embd is 256 and model.mlp_internal_dim_multiplier is 128, together 32768, which is "
          "not "
          "divisible by 2 * model.n_head = 6; rotary phases act on pairs of neurons of one head: change "
          "model.n_head to a divisor of 16384"};
  EXPECT_EQ(problems, wanted);
  EXPECT_EQ(Load({.file = file, .sets = {}, .environment = {}}).status().message(), wanted[0])
      << "Load tells the first";
}

TEST_F(CheckTest, ProblemsAreBounded) {
  std::string yaml = "train:\n";
  for (int i = 0; i < 5000; ++i) yaml += "  key" + std::to_string(i) + ": 1\n";
  EXPECT_EQ(Problems({.file = Write(yaml), .sets = {}, .environment = {}}).size(), 100u);
}

TEST_F(CheckTest, EveryValueKnowsWhereItCameFrom) {
  std::ofstream(folder_.path() + "/base.yaml") << "train:\n  batch_size: 2\n";
  const std::string file = Write("extends: base.yaml\ntrain:\n  max_steps: 3\n  seed: 4\n  block_size: 8\n");
  BDH_ASSERT_OK_AND_ASSIGN(const Loaded loaded,
                           LoadWithOrigins({.file = file,
                                            .sets = {"train.seed=5", "inference.models=[a]"},
                                            .environment = {{"BDH_TRAIN_BLOCK_SIZE", "9"}}}));
  EXPECT_EQ(loaded.origins.at("train.max_steps"), file + ":3");
  EXPECT_EQ(loaded.origins.at("train.batch_size"), folder_.path() + "/base.yaml:2");
  EXPECT_EQ(loaded.origins.at("train.block_size"), "BDH_TRAIN_BLOCK_SIZE");
  EXPECT_EQ(loaded.origins.at("train.seed"), "--set");
  EXPECT_EQ(loaded.origins.at("inference.models"), "--set");
  EXPECT_EQ(loaded.origins.at("train.beta1"), "default");
  EXPECT_EQ(loaded.origins.count("mesh.token_file"), 0u) << "unset";
  const std::string yaml = ToYaml(loaded);
  EXPECT_NE(yaml.find("  seed: 5                                   # --set\n"), std::string::npos) << yaml;
  v1::Config back;
  BDH_EXPECT_OK(ReadYaml(yaml, "printed", back));
  EXPECT_EQ(ToYaml(back), ToYaml(loaded.config));
}

TEST(Diff, NamesTheKeysThatDiffer) {
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Config left, Load({}));
  BDH_ASSERT_OK_AND_ASSIGN(
      const v1::Config right,
      Load({.file = "",
            .sets = {"train.max_steps=5", "inference.models=[a, b]", "mesh.token_file=t"},
            .environment = {}}));
  const auto differences = Diff(left, right);
  ASSERT_EQ(differences.size(), 3u);
  EXPECT_EQ(differences[0].path + differences[0].left + ">" + differences[0].right, "mesh.token_file>t");
  EXPECT_EQ(differences[1].right, "[a, b]");
  EXPECT_EQ(differences[2].left, "3000");
  EXPECT_TRUE(Diff(left, left).empty());
}

// Not std::regex, which gcc 12 does not compile under AddressSanitizer without a false alarm.
bool Matches(const std::string& text, const std::string& pattern) {
  regex_t compiled;
  EXPECT_EQ(regcomp(&compiled, pattern.c_str(), REG_EXTENDED | REG_NOSUB), 0) << pattern;
  const bool matches = regexec(&compiled, text.c_str(), 0, nullptr, 0) == 0;
  regfree(&compiled);
  return matches;
}

// The little of JSON Schema that ours uses; a keyword it does not know is a failure.
class Validator {
 public:
  explicit Validator(Json root) : root_(std::move(root)) {}
  bool Accepts(const Json& value) const { return Valid(root_, value); }

 private:
  static bool IsType(const std::string& type, const Json& value) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "integer") return value.is_number_integer();
    EXPECT_EQ(type, "number");
    return value.is_number();
  }

  bool Keyword(const std::string& name, const Json& want, const Json& schema, const Json& value) const {
    if (name == "type") {
      if (want.is_string()) return IsType(want, value);
      return std::any_of(want.begin(), want.end(), [&](const Json& type) { return IsType(type, value); });
    }
    if (name == "anyOf") {
      return std::any_of(want.begin(), want.end(), [&](const Json& one) { return Valid(one, value); });
    }
    if (name == "enum") return std::find(want.begin(), want.end(), value) != want.end();
    if (name == "minimum") return !value.is_number() || value >= want;
    if (name == "maximum") return !value.is_number() || value <= want;
    if (name == "pattern") {
      return !value.is_string() || Matches(value.get<std::string>(), want.get<std::string>());
    }
    if (name == "minLength") return !value.is_string() || value.get<std::string>().size() >= want;
    if (name == "items") {
      return !value.is_array() ||
             std::all_of(value.begin(), value.end(), [&](const Json& item) { return Valid(want, item); });
    }
    if (name == "minItems") return !value.is_array() || value.size() >= want;
    if (name == "maxItems") return !value.is_array() || value.size() <= want;
    if (name == "required") {
      return std::all_of(want.begin(), want.end(), [&](const Json& key) { return value.contains(key); });
    }
    if (name == "$ref") return Valid(root_.at(Json::json_pointer(want.get<std::string>().substr(1))), value);
    if (name == "properties") return !value.is_object() || Properties(want, schema, value);
    static const std::set<std::string> kRemarks{"$schema", "$id",     "$defs",       "$comment",
                                                "title",   "default", "description", "additionalProperties"};
    EXPECT_EQ(kRemarks.count(name), 1u) << name;
    return true;
  }

  bool Properties(const Json& properties, const Json& schema, const Json& value) const {
    EXPECT_EQ(schema.at("additionalProperties"), false);
    for (const auto& [key, below] : value.items()) {
      if (!properties.contains(key) || !Valid(properties.at(key), below)) return false;
    }
    return true;
  }

  bool Valid(const Json& schema, const Json& value) const {
    for (const auto& [name, want] : schema.items()) {
      if (!Keyword(name, want, schema, value)) return false;
    }
    return true;
  }

  const Json root_;
};

// As an editor would read it: plain texts that are numbers or truth values become such.
Json ToJson(const Node& node) {
  Json json;
  switch (node.kind) {
    case Node::Kind::kNull:
      return nullptr;
    case Node::Kind::kList:
      json = Json::array();
      for (const Node* item : node.items) json.push_back(ToJson(*item));
      return json;
    case Node::Kind::kMap:
      json = Json::object();
      for (const auto& [key, value] : node.pairs) json[key->text] = ToJson(*value);
      return json;
    case Node::Kind::kScalar:
      break;
  }
  const Json plain = node.quoted ? Json() : Json::parse(node.text, nullptr, /*allow_exceptions=*/false);
  return plain.is_number() || plain.is_boolean() ? plain : Json(node.text);
}

bool SchemaAccepts(const std::string& yaml) {
  const auto document = Document::Parse(yaml, {"f.yaml"});
  BDH_EXPECT_OK(document);
  return Validator(Json::parse(JsonSchema())).Accepts(ToJson(document->root()));
}

TEST(SchemaForEditors, AcceptsWhatWeShip) {
  for (const auto& entry : std::filesystem::directory_iterator(BDH_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    BDH_ASSERT_OK_AND_ASSIGN(const std::string yaml, ReadFile(entry.path()));
    EXPECT_TRUE(SchemaAccepts(yaml)) << entry.path();
    EXPECT_TRUE(yaml.starts_with("# yaml-language-server: $schema=bdh.schema.json\n")) << entry.path();
  }
}

TEST(SchemaForEditors, SaysYesAndNoAsTheReaderDoes) {
  const std::pair<const char*, bool> table[] = {
      {"train: {max_steps: 3}", true},
      {"train: {max_steps: 100k}", true},
      {"train: {max_stepps: 3}", false},
      {"train: {max_steps: 0}", false},
      {"train: {max_steps: 1.5}", false},
      {"train: {max_steps: '3'}", false},
      {"train: {max_steps: 3 steps}", false},
      {"train: {lr_schedule: cosine}", true},
      {"train: {lr_schedule: cosin}", false},
      {"train: {learning_rate: 1e-3}", true},
      {"train: {learning_rate: 11}", false},
      {"train: {seed: -1}", false},
      {"train:", true},
      {"train: 5", false},
      {"trian: {}", false},
      {"gateway: {max_body_bytes: 1.5 MiB}", true},
      {"gateway: {max_body_bytes: 4mb}", false},
      {"gateway: {insecure: yes}", false},
      {"gateway: {api_keys: [a, 5]}", true},
      {"gateway: {api_keys: a}", false},
      {"gateway: {api_keys: [{hunter2: a}]}", false},
      {"mesh: {token_file: 2024}", true},
      {"mesh: {token_file: [a]}", false},
      {"inference: {models: [a, [b]]}", false},
  };
  for (const auto& [yaml, right] : table) {
    v1::Config config;
    EXPECT_EQ(ReadYaml(yaml, "f.yaml", config).ok(), right) << yaml;
    EXPECT_EQ(SchemaAccepts(yaml), right) << yaml;
  }
}

TEST(SchemaForEditors, KnowsWhatOnlyFilesMaySay) {
  EXPECT_TRUE(SchemaAccepts("extends: base.yaml"));
  EXPECT_TRUE(SchemaAccepts("extends: [base.yaml, site.yaml]"));
  EXPECT_FALSE(SchemaAccepts("extends: []"));
  EXPECT_TRUE(SchemaAccepts("gateway: {api_keys: {file: keys}}"));
  EXPECT_TRUE(SchemaAccepts("gateway: {api_keys: [a, {env: KEY}]}"));
  EXPECT_FALSE(SchemaAccepts("gateway: {api_keys: {file: keys, env: KEY}}"));
  EXPECT_FALSE(SchemaAccepts("inference: {models: {file: keys}}"));
}

// Looks for a row of each key of `section` and of those within; returns how many there are.
size_t ExpectRows(const std::string& page, const std::string& path, const Json& section) {
  size_t keys = 0;
  for (const auto& [key, value] : section.at("properties").items()) {
    const std::string key_path = path + "." + key;
    if (value.contains("properties")) {
      keys += ExpectRows(page, key_path, value);
      continue;
    }
    ++keys;
    const size_t row = page.find("| `" + key_path + "` |");
    EXPECT_NE(row, std::string::npos) << key_path;
    if (row == std::string::npos) continue;
    const std::string line = page.substr(row, page.find('\n', row) - row);
    const std::string about = value.value("description", "");
    if (about.find('|') == std::string::npos) {
      EXPECT_NE(line.find(about), std::string::npos) << line;
    }
    if (value.contains("default") && value["default"].is_string()) {
      EXPECT_NE(line.find("| `" + value["default"].get<std::string>() + "` |"), std::string::npos) << line;
    }
  }
  return keys;
}

// The page for people and the schema for editors name the same keys.
TEST(SchemaForEditors, HasTheKeysOfTheReferencePage) {
  const std::string page = MarkdownReference();
  size_t keys = 0;
  const Json schema = Json::parse(JsonSchema());
  for (const auto& [section, below] : schema.at("properties").items()) {
    if (section != "extends") keys += ExpectRows(page, section, below);
  }
  size_t rows = 0;
  for (size_t at = page.find("\n| `"); at != std::string::npos; at = page.find("\n| `", at + 1)) ++rows;
  EXPECT_EQ(rows, keys);
}

}  // namespace
}  // namespace bdh::config
