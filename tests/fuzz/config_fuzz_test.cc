// No text crashes the reader of configurations. What is accepted also prints and comes back the same.
#include <gtest/gtest.h>

#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"
#include "tests/fuzz/mutation.h"

namespace bdh::fuzz {
namespace {

constexpr std::string_view kSeeds[] = {
    R"(train:
  max_steps: 100k
  learning_rate: 1e-3
  lr_schedule: cosine
  seed: 7
)",
    R"({"model": {"n_layer": 4, "dropout": 0.05}, "inference": {"models": ["a", "b"]}})",
    R"(mesh: &m
  token_file: 'a b'
  data_loader: "dns:///h:1\n\u00e9"
  call_timeout_seconds: 1.5m
inference:
  models:
  - a
  - b # c
)",
    R"(gateway:
  api_keys: [x, y]
  max_body_bytes: 1.5 MiB
  insecure: true
  cors_allow_origin: |
    text
    more
)",
    R"(extends: [a.yaml]
gateway: {api_keys: [{file: keys}, {env: KEY}]}
)",
};

Mutator YamlMutator(uint64_t seed) {
  return {seed, {"[",        "]",      "{",           "}",    ":",     ": ",   "- ",
                 "\n",       "  ",     "\t",          "&a ",  "*a",    "!",    "!!",
                 "'",        "\"",     "\\",          "\\x4", "\\uD8", "#",    "|",
                 ">",        "%",      "? ",          "~",    "<<",    "---",  "\n...\n",
                 "0",        "-1",     "1e999",       ".nan", ",",     "\xff", "\xef\xbb\xbf",
                 "\x04",     "train:", "max_steps: ", "null", "MiB",   "s",    "9223372036854775808",
                 "extends: "}};
}

TEST(ConfigFuzz, MutatedDocumentsGetAnErrorOrAConfiguration) {
  Mutator mutator = YamlMutator(20240229);
  const int rounds = Rounds(6000);
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    const std::string text = mutator.Mutated(std::string(mutator.Pick(kSeeds)));
    v1::Config config;
    const absl::Status status = config::ReadYaml(text, "fuzz", config);
    if (!status.ok()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_EQ(status.message().substr(0, 5), "fuzz:") << text;
      continue;
    }
    ++accepted;
    config.mutable_gateway()->clear_api_keys();  // They print as ***.
    v1::Config back;
    BDH_EXPECT_OK(config::ReadYaml(config::ToYaml(config), "printed", back));
    EXPECT_EQ(config.SerializeAsString(), back.SerializeAsString()) << text;
  }
  EXPECT_GT(accepted, rounds / 60) << "the mutations are too wild to test anything but the parser";
}

TEST(ConfigFuzz, MutatedAssignmentsGetAnErrorOrAConfiguration) {
  Mutator mutator = YamlMutator(3);
  constexpr std::string_view kAssignments[] = {"gateway.api_keys=[a, 'b']", "gateway.max_body_bytes=1.5MiB",
                                               "train={max_steps: 5, learning_rate: 1e-3}"};
  int accepted = 0;
  const int rounds = Rounds(3000);
  for (int i = 0; i < rounds; ++i) {
    v1::Config config;
    accepted += config::Set(mutator.Mutated(std::string(mutator.Pick(kAssignments))), "--set", config).ok();
  }
  EXPECT_GT(accepted, rounds / 200);
}

}  // namespace
}  // namespace bdh::fuzz
