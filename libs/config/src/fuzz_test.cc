// Proves by trying that no text crashes the reader: a few thousand seeded mutations of real documents. What
// is accepted must also print and come back, and be within its ranges.
#include <gtest/gtest.h>

#include <random>

#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::config {
namespace {

constexpr const char* kSeeds[] = {
    R"(train:
  max_steps: 100
  learning_rate: 1e-3
  lr_schedule: cosine
  seed: 7
)",
    R"({"model": {"n_layer": 4, "dropout": 0.05}, "inference": {"models": ["a", "b"]}})",
    R"(mesh: &m
  token_file: 'a b'
  data_loader: "dns:///h:1\n\u00e9"
inference:
  models:
  - a
  - b # c
)",
    R"(gateway:
  api_keys: [x, y]
  insecure: true
  cors_allow_origin: |
    text
    more
)",
};
constexpr const char* kPieces[] = {"[",    "]",      "{",           "}",    ":",     ": ",   "- ",
                                   "\n",   "  ",     "\t",          "&a ",  "*a",    "!",    "!!",
                                   "'",    "\"",     "\\",          "\\x4", "\\uD8", "#",    "|",
                                   ">",    "%",      "? ",          "~",    "<<",    "---",  "\n...\n",
                                   "0",    "-1",     "1e999",       ".nan", ",",     "\xff", "\xef\xbb\xbf",
                                   "\x04", "train:", "max_steps: ", "null"};

template <class T, size_t kSize>
const T& Pick(const T (&from)[kSize], std::mt19937_64& random) {
  return from[random() % kSize];
}

void Mutate(std::string& text, std::mt19937_64& random) {
  const size_t at = random() % (text.size() + 1);
  switch (random() % 5) {
    case 0:
      text.insert(at, Pick(kPieces, random));
      break;
    case 1:
      text.erase(at, 1 + random() % 8);
      break;
    case 2:
      if (at < text.size()) text[at] = static_cast<char>(random());
      break;
    case 3:
      text.insert(at, text.substr(random() % (text.size() + 1), random() % 40));
      break;
    default:
      text.replace(at, random() % 4, Pick(kPieces, random));
  }
}

TEST(Fuzz, MutatedDocumentsGetAnErrorOrAConfiguration) {
  std::mt19937_64 random(20240229);
  int accepted = 0;
  for (int i = 0; i < 6000; ++i) {
    std::string text = Pick(kSeeds, random);
    for (uint64_t n = 1 + random() % 6; n > 0; --n) Mutate(text, random);
    v1::Config config;
    const absl::Status status = ReadYaml(text, "fuzz", config);
    if (!status.ok()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_EQ(status.message().substr(0, 5), "fuzz:") << text;
      continue;
    }
    ++accepted;
    BDH_EXPECT_OK(Validate(config));
    config.mutable_gateway()->clear_api_keys();  // They print as ***.
    v1::Config back;
    BDH_EXPECT_OK(ReadYaml(ToYaml(config), "printed", back));
    EXPECT_EQ(config.SerializeAsString(), back.SerializeAsString()) << text;
  }
  EXPECT_GT(accepted, 100) << "the mutations are too wild to test anything but the parser";
}

TEST(Fuzz, MutatedAssignmentsGetAnErrorOrAConfiguration) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 3000; ++i) {
    std::string text = i % 2 == 0 ? "gateway.api_keys=[a, 'b']" : "train={max_steps: 5, learning_rate: 1e-3}";
    for (uint64_t n = 1 + random() % 4; n > 0; --n) Mutate(text, random);
    v1::Config config;
    if (Set(text, "--set", config).ok()) BDH_EXPECT_OK(Validate(config));
  }
}

}  // namespace
}  // namespace bdh::config
