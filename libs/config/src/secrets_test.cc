// Proves that secrets may stand in a file or in the environment, that a file everybody can read is refused,
// and that no error shows a secret.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>

#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::config {
namespace {

class SecretsTest : public ::testing::Test {
 protected:
  SecretsTest() { setenv("SECRETS_TEST_KEY", "env-key", 1); }
  ~SecretsTest() override { unsetenv("SECRETS_TEST_KEY"); }

  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }

  void Write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    std::ofstream(Path(name)) << text;
    ASSERT_EQ(chmod(Path(name).c_str(), mode), 0);
  }

  absl::StatusOr<v1::Config> WithKeys(const std::string& value) const {
    Write("my.yaml", "gateway: {api_keys: " + value + "}\n");
    return Load({.file = Path("my.yaml"), .sets = {}, .environment = {}});
  }

  std::vector<std::string> Keys(const std::string& value) const {
    const auto config = WithKeys(value);
    BDH_EXPECT_OK(config);
    if (!config.ok()) return {};
    return {config->gateway().api_keys().begin(), config->gateway().api_keys().end()};
  }

  // With the folder's own name left out.
  std::string ErrorOf(const std::string& value) const {
    std::string message(WithKeys(value).status().message());
    for (size_t at; (at = message.find(folder_.path() + "/")) != std::string::npos;) {
      message.erase(at, folder_.path().size() + 1);
    }
    return message;
  }

  TempDirectory folder_;
};

using List = std::vector<std::string>;

TEST_F(SecretsTest, AFileHoldsOneALine) {
  Write("keys", "# of the shop\nfirst\n\n  second  \r\n");
  EXPECT_EQ(Keys("{file: keys}"), (List{"first", "second"}));
  EXPECT_EQ(Keys("{file: " + Path("keys") + "}"), (List{"first", "second"}));
}

TEST_F(SecretsTest, ItemsOfAListMayStandElsewhere) {
  Write("keys", "first\nsecond\n");
  EXPECT_EQ(Keys("[zero, {file: keys}, {env: SECRETS_TEST_KEY}]"),
            (List{"zero", "first", "second", "env-key"}));
  EXPECT_EQ(Keys("{env: SECRETS_TEST_KEY}"), List{"env-key"});
}

TEST_F(SecretsTest, SetsAndVariablesNameThemToo) {
  Write("keys", "first\n");
  const std::string value = "{file: " + Path("keys") + "}";
  BDH_ASSERT_OK_AND_ASSIGN(v1::Config config,
                           Load({.file = "", .sets = {"gateway.api_keys=" + value}, .environment = {}}));
  EXPECT_EQ(config.gateway().api_keys(0), "first");
  BDH_ASSERT_OK_AND_ASSIGN(config,
                           Load({.file = "", .sets = {}, .environment = {{"BDH_GATEWAY_API_KEYS", value}}}));
  EXPECT_EQ(config.gateway().api_keys(0), "first");
}

TEST_F(SecretsTest, ThePrintedConfigurationHidesThem) {
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Config config, WithKeys("{env: SECRETS_TEST_KEY}"));
  EXPECT_EQ(ToYaml(config).find("env-key"), std::string::npos);
  v1::Config other = config;
  other.mutable_gateway()->set_api_keys(0, "another");
  const auto differences = Diff(config, other);
  ASSERT_EQ(differences.size(), 1u);
  EXPECT_EQ(differences[0].left, "[\"***\"]");
  EXPECT_EQ(differences[0].right, "[\"***\"]");
}

TEST_F(SecretsTest, AFileThatEverybodyCanReadIsRefused) {
  Write("keys", "hunter2\n", 0644);
  EXPECT_EQ(ErrorOf("{file: keys}"),
            "my.yaml:1:21: gateway.api_keys: names the file keys, which everybody can read (mode 0644); run: "
            "chmod 600 keys");
  Write("keys", "hunter2\n", 0640);
  EXPECT_EQ(Keys("{file: keys}"), List{"hunter2"}) << "Kubernetes mounts secrets so";
}

TEST_F(SecretsTest, WhatCannotBeASecretIsRefusedWithoutShowingIt) {
  EXPECT_EQ(ErrorOf("{file: gone}"),
            "my.yaml:1:21: gateway.api_keys: names the file gone: No such file or directory");
  EXPECT_EQ(ErrorOf("{env: SECRETS_TEST_NOBODY}"),
            "my.yaml:1:21: gateway.api_keys: names the variable SECRETS_TEST_NOBODY, which is not set");
  Write("keys", "# none yet\n");
  EXPECT_EQ(ErrorOf("{file: keys}"),
            "my.yaml:1:21: gateway.api_keys: names the file keys, which holds no secret");
  Write("keys", "hunter 2\n");
  EXPECT_EQ(
      ErrorOf("[a, {file: keys}]"),
      "my.yaml:1:25: gateway.api_keys[1]: names the file keys, of which a line is not 1 to 4096 visible "
      "ASCII characters");
  Write("keys", std::string(5000, 'x'));
  EXPECT_NE(ErrorOf("{file: keys}").find("not 1 to 4096 visible"), std::string::npos);
  Write("keys", std::string(70000, '\n'));
  EXPECT_EQ(ErrorOf("{file: keys}"),
            "my.yaml:1:21: gateway.api_keys: names the file keys, which is larger than 64 KiB");
  EXPECT_EQ(
      ErrorOf("{files: keys}"),
      "my.yaml:1:21: gateway.api_keys: is a map; want a list, like [a, b], {file: PATH} or {env: NAME}");
  EXPECT_EQ(
      ErrorOf("{file: keys, env: A}"),
      "my.yaml:1:21: gateway.api_keys: is a map; want a list, like [a, b], {file: PATH} or {env: NAME}");
}

TEST_F(SecretsTest, KeysThatAreNoSecretsTakeNoReference) {
  Write("my.yaml", "inference: {models: {file: keys}}\n");
  EXPECT_NE(std::string(Load({.file = Path("my.yaml"), .sets = {}, .environment = {}}).status().message())
                .find("inference.models: is a map; want a list, like [a, b]"),
            std::string::npos);
}

}  // namespace
}  // namespace bdh::config
