// Proves that what ToYaml writes, ReadYaml reads back as the same message: every number and every text.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>

#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::config {
namespace {

template <class T>
void ExpectRoundTrip(const T& message) {
  const std::string yaml = ToYaml(message);
  T back;
  BDH_ASSERT_OK(ReadYaml(yaml, "printed", back));
  EXPECT_EQ(message.SerializeAsString(), back.SerializeAsString()) << yaml;
}

// UTF-8 of a code point, of one to four bytes.
std::string RandomCharacter(std::mt19937_64& random) {
  static constexpr uint32_t kLimits[] = {0x7f, 0x7ff, 0xffff, 0x10ffff};
  const uint32_t code = 1 + random() % kLimits[random() % 4];
  const auto tail = [code](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
  const auto lead = [](uint32_t bits) { return static_cast<char>(bits); };
  if (code < 0x80) return {lead(code)};
  if (code < 0x800) return {lead(0xc0 | (code >> 6)), tail(0)};
  if (code >= 0xd800 && code <= 0xdfff) return "?";  // Halves of a pair are no characters.
  if (code < 0x10000) return {lead(0xe0 | (code >> 12)), tail(6), tail(0)};
  return {lead(0xf0 | (code >> 18)), tail(12), tail(6), tail(0)};
}

TEST(ToYaml, TheDefaultsComeBack) {
  BDH_ASSERT_OK_AND_ASSIGN(const v1::Config config, Load({}));
  ExpectRoundTrip(config);
}

TEST(ToYaml, ReadsWell) {
  v1::Config config;
  config.mutable_train()->set_max_steps(3);
  config.mutable_train()->set_learning_rate(0.001);
  config.mutable_model();
  config.mutable_inference()->add_models("runs/a/checkpoints/1");
  config.mutable_inference()->add_models("true");
  EXPECT_EQ(ToYaml(config),
            "inference:\n"
            "  models:\n"
            "    - runs/a/checkpoints/1\n"
            "    - \"true\"\n"
            "model: {}\n"
            "train:\n"
            "  max_steps: 3\n"
            "  learning_rate: 0.001\n");
  EXPECT_EQ(ToYaml(v1::Config()), "{}\n");
  ExpectRoundTrip(v1::Config());
}

TEST(ToYaml, SecretsAreMaskedAndTheMaskIsNotTakenForOne) {
  v1::Config config;
  config.mutable_gateway()->add_api_keys("hunter2");
  config.mutable_gateway()->add_api_keys("hunter3");
  const std::string yaml = ToYaml(config);
  EXPECT_EQ(yaml, "gateway:\n  api_keys:\n    - \"***\"\n    - \"***\"\n");
  EXPECT_FALSE(ReadYaml(yaml, "printed", config).ok());
}

TEST(ToYaml, TextsThatLookLikeSomethingElseComeBack) {
  for (const char* text : {"",           " ",
                           "~",          "null",
                           "Null",       "true",
                           "no",         "On",
                           "1",          "1.5",
                           "1e3",        "0x10",
                           "12:30",      ".inf",
                           "-",          "- a",
                           "a: b",       "a:",
                           ":",          "#",
                           "a #b",       "*",
                           "&a",         "!t",
                           "%d",         "@",
                           "`",          "[a]",
                           "{a: b}",     "'",
                           "\"",         "\\",
                           "\\n",        "a'b",
                           "---",        "...",
                           "?",          "? a",
                           "|",          ">",
                           "<<",         "=",
                           "a\nb",       "a\n",
                           "\n",         "\r",
                           "\t",         "\ta",
                           "a ",         " a",
                           "\u00e9",     "\u0085",
                           "\u2028",     "\u2029",
                           "\ufeff",     "a\ufeff",
                           "\U0001f600", "\x01",
                           "\x04",       "\x7f",
                           "a,b",        "http://h:1/x?y=z"}) {
    v1::Config config;
    config.mutable_mesh()->set_token_file(text);
    config.mutable_inference()->add_models(text);
    ExpectRoundTrip(config);
  }
}

TEST(ToYaml, RandomTextsComeBack) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    v1::Config config;
    std::string text;
    for (uint64_t size = random() % 40; size > 0; --size) text += RandomCharacter(random);
    config.mutable_mesh()->set_token_file(text);
    ExpectRoundTrip(config);
  }
}

TEST(ToYaml, RandomDoublesComeBackBitForBit) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 2000; ++i) {
    // Within the rule of grad_clip: any finite number that is not negative.
    const uint64_t bits = random() & ~(uint64_t{1} << 63);
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    if (value > std::numeric_limits<double>::max() || value != value) continue;
    v1::TrainConfig train;
    train.set_grad_clip(value);
    ExpectRoundTrip(train);
  }
  v1::TrainConfig train;
  train.set_grad_clip(std::numeric_limits<double>::denorm_min());
  ExpectRoundTrip(train);
  train.set_grad_clip(std::numeric_limits<double>::max());
  train.set_seed(std::numeric_limits<uint64_t>::max());
  train.set_warmup_steps(std::numeric_limits<int64_t>::max());
  ExpectRoundTrip(train);
}

}  // namespace
}  // namespace bdh::config
