// Proves that 256MiB, 30s and 100k mean what they say where a key has such a unit, that nothing is rounded,
// and that an error teaches the units a key has.
#include "units.h"

#include <gtest/gtest.h>

#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::config {
namespace {

v1::Config Read(const std::string& yaml) {
  v1::Config config;
  BDH_EXPECT_OK(ReadYaml(yaml, "f.yaml", config));
  return config;
}

std::string ErrorOf(const std::string& yaml) {
  v1::Config config;
  return std::string(ReadYaml(yaml, "f.yaml", config).message());
}

int64_t Bytes(const std::string& text) {
  return Read("data_loader: {max_dataset_bytes: " + text + "}").data_loader().max_dataset_bytes();
}

double Seconds(const std::string& text) {
  return Read("mesh: {call_timeout_seconds: " + text + "}").mesh().call_timeout_seconds();
}

TEST(Units, BytesAreBinaryOrDecimal) {
  EXPECT_EQ(Bytes("2048"), 2048);
  EXPECT_EQ(Bytes("2048B"), 2048);
  EXPECT_EQ(Bytes("256MiB"), 268435456);
  EXPECT_EQ(Bytes("256MB"), 256000000);
  EXPECT_EQ(Bytes("1.5GiB"), 1610612736);
  EXPECT_EQ(Bytes("1.5 GiB"), 1610612736);
  EXPECT_EQ(Bytes("4kB"), 4000);
  EXPECT_EQ(Bytes("4KiB"), 4096);
  EXPECT_EQ(Bytes("3TiB"), 3298534883328);
  EXPECT_EQ(Bytes("'4KiB'"), 4096) << "JSON cannot say it otherwise";
  EXPECT_EQ(Bytes("0.001953125MiB"), 2048);
}

TEST(Units, SecondsHaveShorterAndLongerOnes) {
  EXPECT_EQ(Seconds("30"), 30);
  EXPECT_EQ(Seconds("30s"), 30);
  EXPECT_EQ(Seconds("500ms"), 0.5);
  EXPECT_EQ(Seconds("1.5m"), 90);
  EXPECT_EQ(Seconds("1h"), 3600);
  EXPECT_EQ(Read("gateway: {request_timeout_seconds: 1d}").gateway().request_timeout_seconds(), 86400);
}

TEST(Units, CountsComeInThousandsAndMillions) {
  EXPECT_EQ(Read("train: {max_steps: 100k}").train().max_steps(), 100000);
  EXPECT_EQ(Read("train: {max_steps: 1.5M}").train().max_steps(), 1500000);
  EXPECT_EQ(Read("data_loader: {shard_tokens: 1G}").data_loader().shard_tokens(), 1000000000);
}

TEST(Units, PrintedConfigurationHasNone) {
  const v1::Config config = Read("gateway: {max_body_bytes: 2MiB, ping_seconds: 1m}");
  EXPECT_EQ(ToYaml(config), "gateway:\n  max_body_bytes: 2097152\n  ping_seconds: 60\n");
}

TEST(Units, ErrorsTeachThem) {
  const std::pair<const char*, const char*> table[] = {
      {"gateway: {max_body_bytes: 4mb}",
       "f.yaml:1:27: gateway.max_body_bytes: is \"4mb\"; want an integer, 1024 to 268435456 bytes; units: B, "
       "kB, "
       "MB, GB, TB, KiB, MiB, GiB, TiB"},
      {"mesh: {call_timeout_seconds: 5 min}",
       "f.yaml:1:30: mesh.call_timeout_seconds: is \"5 min\"; want a number, 0.1 to 3600 seconds; units: ms, "
       "s, m, "
       "h, d"},
      {"train: {max_steps: 12abc}",
       "f.yaml:1:20: train.max_steps: is \"12abc\"; want an integer, 1 to 1000000000 steps; units: k, M, G"},
      {"gateway: {max_connections: 1k}",
       "f.yaml:1:28: gateway.max_connections: is \"1k\"; want an integer, 1 to 65536; it takes no unit"},
      {"train: {learning_rate: 3m}",
       "f.yaml:1:24: train.learning_rate: is \"3m\"; want a number, 0 to 10; it takes no unit"},
      {"gateway: {max_body_bytes: 1.0001kB}",
       "f.yaml:1:27: gateway.max_body_bytes: is \"1.0001kB\", not a whole number of bytes; want an integer, "
       "1024 to "
       "268435456 bytes"},
      {"gateway: {max_body_bytes: 1GiB}",
       "f.yaml:1:27: gateway.max_body_bytes: is 1073741824; want 1024 to 268435456 bytes"},
      {"gateway: {max_body_bytes: 010kB}",
       "f.yaml:1:27: gateway.max_body_bytes: is \"010kB\"; want an integer, 1024 to 268435456 bytes"},
      {"mesh: {max_message_bytes: 4GiB}",
       "f.yaml:1:27: mesh.max_message_bytes: is \"4GiB\"; want 2097152 to 268435456 bytes"},
      {"data_loader: {max_dataset_bytes: 9999999TiB}",
       "f.yaml:1:34: data_loader.max_dataset_bytes: is \"9999999TiB\"; want an integer, 1024 bytes or more"},
      {"data_loader: {max_dataset_bytes: 99999999999999999999999999999999999999999999.5B}",
       "f.yaml:1:34: data_loader.max_dataset_bytes: is \"99999999999999999999999999999999999999999999.5B\"; "
       "want an "
       "integer, 1024 bytes or more"},
  };
  for (const auto& [yaml, message] : table) EXPECT_EQ(ErrorOf(yaml), message);
}

TEST(Units, TextsThatLookLikeOneStayText) {
  EXPECT_EQ(Read("mesh: {token_file: 5m}").mesh().token_file(), "5m");
  EXPECT_EQ(Read("inference: {models: [7b, 25M]}").inference().models(1), "25M");
}

TEST(ParseQuantity, IsExactUpToTheLargestNumber) {
  int64_t value = 0;
  EXPECT_EQ(ParseQuantity("9223372036854775807B", "bytes", value), Quantity::kOk);
  EXPECT_EQ(value, 9223372036854775807);
  EXPECT_EQ(ParseQuantity("9223372036854775808B", "bytes", value), Quantity::kOverflow);
  EXPECT_EQ(ParseQuantity("8388608TiB", "bytes", value), Quantity::kOverflow);
  EXPECT_EQ(ParseQuantity("8388607.5TiB", "bytes", value), Quantity::kOk);
  EXPECT_EQ(value, 9223372036854775807 - (int64_t{1} << 39) + 1);
}

}  // namespace
}  // namespace bdh::config
