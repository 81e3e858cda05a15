// Proves what reading YAML accepts, and that everything else gets an error that names the place, the key and
// what was wanted. The tables hold whole messages, because people read them.
#include <gtest/gtest.h>

#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::config {
namespace {

std::string ErrorOf(std::string_view yaml) {
  v1::Config config;
  return std::string(ReadYaml(yaml, "f.yaml", config).message());
}

v1::Config Read(std::string_view yaml) {
  v1::Config config;
  BDH_EXPECT_OK(ReadYaml(yaml, "f.yaml", config));
  return config;
}

std::string Repeated(std::string_view text, size_t bytes) {
  std::string all;
  while (all.size() + text.size() <= bytes) all += text;
  return all;
}

struct Bad {
  const char* yaml;
  const char* message;
};

void ExpectMessages(const std::vector<Bad>& table) {
  for (const Bad& bad : table) EXPECT_EQ(ErrorOf(bad.yaml), bad.message) << bad.yaml;
}

TEST(ReadYaml, BlockFlowAndJsonMeanTheSame) {
  const v1::Config block =
      Read("train:\n  max_steps: 3\n  learning_rate: 1e-3\ninference:\n  models: [a, b]\n");
  const v1::Config flow = Read("{train: {max_steps: 3, learning_rate: .001}, inference: {models: [a, b,]}}");
  const v1::Config json = Read(
      "{\n\t\"train\": {\"max_steps\":3, \"learning_rate\": 0.001},\n\t\"inference\": {\"models\": [\"a\", "
      "\"b\"]}\n}");
  EXPECT_EQ(block.train().max_steps(), 3);
  EXPECT_EQ(block.train().learning_rate(), 0.001);
  ASSERT_EQ(block.inference().models_size(), 2);
  EXPECT_EQ(block.SerializeAsString(), flow.SerializeAsString());
  EXPECT_EQ(block.SerializeAsString(), json.SerializeAsString());
}

TEST(ReadYaml, WhatIsNotGivenStaysUnset) {
  const v1::Config config = Read("train: {max_steps: 3}");
  EXPECT_TRUE(config.has_train());
  EXPECT_FALSE(config.has_model());
  EXPECT_FALSE(config.train().has_seed());
}

TEST(ReadYaml, EmptyTextAndEmptySectionsAreFine) {
  for (const char* yaml : {"", "\n", "# nothing\n", "---\n", "{}", "train:\n  # max_steps: 3\n"}) {
    EXPECT_FALSE(Read(yaml).train().has_max_steps()) << yaml;
  }
}

TEST(ReadYaml, ReadsAnyMessageOfTheSchema) {
  v1::ModelConfig model;
  BDH_EXPECT_OK(ReadYaml("n_layer: 2", "m.yaml", model));
  EXPECT_EQ(model.n_layer(), 2);
  EXPECT_EQ(ReadYaml("n_layers: 2", "m.yaml", model).message(),
            "m.yaml:1:1: n_layers: unknown key; did you mean n_layer?");
}

TEST(ReadYaml, AListReplacesTheOneBefore) {
  v1::Config config = Read("inference: {models: [a, b]}");
  BDH_EXPECT_OK(ReadYaml("inference: {models: [c]}", "g.yaml", config));
  ASSERT_EQ(config.inference().models_size(), 1);
  EXPECT_EQ(config.inference().models(0), "c");
}

TEST(ReadYaml, TextIsTakenAsItStands) {
  EXPECT_EQ(Read("mesh: {token_file: 2024}").mesh().token_file(), "2024");
  EXPECT_EQ(Read("mesh: {token_file: 0x10}").mesh().token_file(), "0x10");
  EXPECT_EQ(Read("mesh: {token_file: 'null'}").mesh().token_file(), "null");
  EXPECT_EQ(Read("mesh: {token_file: ''}").mesh().token_file(), "");
  EXPECT_EQ(Read("mesh: {data_loader: 127.0.0.1:80}").mesh().data_loader(), "127.0.0.1:80");
  EXPECT_EQ(Read("mesh: {token_file: \"a\\n\\u00e9\\/\"}").mesh().token_file(), "a\n\u00e9/");
  EXPECT_EQ(Read("mesh:\n  token_file: |\n    a\n    b\n").mesh().token_file(), "a\nb\n");
}

TEST(ReadYaml, IntegersReachTheirLimits) {
  EXPECT_EQ(Read("train: {seed: 18446744073709551615}").train().seed(), 18446744073709551615u);
  EXPECT_EQ(Read("train: {warmup_steps: 9223372036854775807}").train().warmup_steps(), 9223372036854775807);
  EXPECT_EQ(Read("train: {max_steps: +5}").train().max_steps(), 5);
}

TEST(ReadYaml, AByteOrderMarkAndLineEndsOfWindowsAreFine) {
  EXPECT_EQ(Read("\xef\xbb\xbftrain:\r\n  max_steps: 3\r\n").train().max_steps(), 3);
}

TEST(ReadYaml, AliasesRepeatAValue) {
  const v1::Config config = Read("mesh: {data_loader: &a 'h:1', inference: *a}");
  EXPECT_EQ(config.mesh().inference(), "h:1");
}

// It may have come over the wire: it must not make this process open files or tell variables.
TEST(ReadYaml, ReachesNothingOutsideOfTheText) {
  ExpectMessages({
      {"extends: /etc/passwd", "f.yaml:1:1: extends: unknown key; it belongs to the top level of a file"},
      {"gateway: {api_keys: {file: /etc/passwd}}",
       "f.yaml:1:21: gateway.api_keys: names a secret elsewhere; only a file, --set or a variable may"},
      {"gateway: {api_keys: [{env: PATH}]}",
       "f.yaml:1:22: gateway.api_keys[0]: names a secret elsewhere; only a file, --set or a variable may"},
  });
}

TEST(ReadYaml, UnknownKeysNameTheNearestKnownOne) {
  ExpectMessages({
      {"train:\n  max_stepps: 3", "f.yaml:2:3: train.max_stepps: unknown key; did you mean max_steps?"},
      {"trian: {}", "f.yaml:1:1: trian: unknown key; did you mean train?"},
      {"train: {max_steps:3}", "f.yaml:1:9: train.max_steps:3: unknown key; did you mean max_steps?"},
      {"train: {max_steps 3}", "f.yaml:1:9: train.max_steps 3: unknown key; did you mean max_steps?"},
      {"model: {block_size: 1}", "f.yaml:1:9: model.block_size: unknown key; did you mean train.block_size?"},
      {"max_steps: 3", "f.yaml:1:1: max_steps: unknown key; did you mean train.max_steps?"},
      {"model: {colour: red}",
       "f.yaml:1:9: model.colour: unknown key; known here: architecture, n_layer, n_embd, n_head, "
       "mlp_internal_dim_multiplier, vocab_size, dropout"},
      {"\"a\\nb\": 3",
       "f.yaml:1:1: a\\nb: unknown key; known here: mesh, data_loader, trainer_worker, checkpoint_store, "
       "inference, gateway, model, train, supervisor"},
  });
}

TEST(ReadYaml, ValuesOutOfRangeNameTheRange) {
  ExpectMessages({
      {"train:\n  max_steps: 0", "f.yaml:2:14: train.max_steps: is 0; want 1 to 1000000000 steps"},
      {"train: {max_steps: -7}", "f.yaml:1:20: train.max_steps: is -7; want 1 to 1000000000 steps"},
      {"train: {beta1: 1.5}", "f.yaml:1:16: train.beta1: is 1.5; want 0 to 0.999999"},
      {"train: {log_interval: 0}", "f.yaml:1:23: train.log_interval: is 0; want 1 steps or more"},
      {"mesh: {call_timeout_seconds: 0}",
       "f.yaml:1:30: mesh.call_timeout_seconds: is 0; want 0.1 to 3600 seconds"},
      {"data_loader: {max_dataset_bytes: 5}",
       "f.yaml:1:34: data_loader.max_dataset_bytes: is 5; want 1024 bytes or more"},
      {"train: {lr_schedule: cosin}",
       "f.yaml:1:22: train.lr_schedule: is \"cosin\"; want constant, linear or cosine"},
      {"model: {architecture: gpt}", "f.yaml:1:23: model.architecture: is \"gpt\"; want bdh"},
      // Beyond the type, with and without a rule.
      {"train: {batch_size: 4294967296}",
       "f.yaml:1:21: train.batch_size: is 4294967296; want 1 to 65536 sequences"},
      {"train: {max_steps: 99999999999999999999}",
       "f.yaml:1:20: train.max_steps: is 99999999999999999999; want 1 to 1000000000 steps"},
      {"train: {warmup_steps: 9223372036854775808}",
       "f.yaml:1:23: train.warmup_steps: is 9223372036854775808; want 0 to 9223372036854775807 steps"},
      {"train: {seed: 18446744073709551616}",
       "f.yaml:1:15: train.seed: is 18446744073709551616; want 0 to 18446744073709551615"},
      {"train: {seed: -1}", "f.yaml:1:15: train.seed: is -1; want 0 to 18446744073709551615"},
  });
}

TEST(ReadYaml, NothingIsConverted) {
  const std::string wanted = "; want an integer, 1 to 1000000000 steps";
  for (const char* text : {"0x10", "1_000", "true", "3,000"}) {
    EXPECT_EQ(ErrorOf(std::string("train:\n  max_steps: ") + text),
              "f.yaml:2:14: train.max_steps: is \"" + std::string(text) + "\"" + wanted);
  }
}

TEST(ReadYaml, WrongTypesNameTheRightOne) {
  ExpectMessages({
      {"train: {max_steps: 1.5}",
       "f.yaml:1:20: train.max_steps: is 1.5; want an integer, 1 to 1000000000 steps"},
      {"train: {max_steps: 1e3}",
       "f.yaml:1:20: train.max_steps: is 1e3; want an integer, 1 to 1000000000 steps"},
      {"train: {max_steps: 1e}",
       "f.yaml:1:20: train.max_steps: is 1e; want an integer, 1 to 1000000000 steps; units: k, M, G"},
      {"train: {max_steps: -}",
       "f.yaml:1:20: train.max_steps: is \"-\"; want an integer, 1 to 1000000000 steps"},
      {"train: {max_steps: 010}",
       "f.yaml:1:20: train.max_steps: is 010; want an integer, 1 to 1000000000 steps"},
      {"train: {max_steps: '3'}",
       "f.yaml:1:20: train.max_steps: is 3 in quotes; want an integer, 1 to 1000000000 steps, without "
       "quotes"},
      {"train: {max_steps: \"\"}",
       "f.yaml:1:20: train.max_steps: is empty in quotes; want an integer, 1 to 1000000000 steps, without "
       "quotes"},
      {"train: {max_steps: [3]}",
       "f.yaml:1:20: train.max_steps: is a list; want an integer, 1 to 1000000000 steps"},
      {"train: {max_steps: {a: 1}}",
       "f.yaml:1:20: train.max_steps: is a map; want an integer, 1 to 1000000000 steps"},
      {"train:\n  max_steps:\n  seed: 1",
       "f.yaml:2:3: train.max_steps: has no value; want an integer, 1 to 1000000000 steps; or leave the key "
       "out"},
      {"mesh: {token_file: ~}", "f.yaml:1:8: mesh.token_file: has no value; want text; or leave the key out"},
      {"train: {learning_rate: fast}",
       "f.yaml:1:24: train.learning_rate: is \"fast\"; want a number, 0 to 10"},
      {"train: {learning_rate: 1..2}", "f.yaml:1:24: train.learning_rate: is 1..2; want a number, 0 to 10"},
      {"train: {learning_rate: +-1}", "f.yaml:1:24: train.learning_rate: is \"+-1\"; want a number, 0 to 10"},
      {"train: {grad_clip: .nan}", "f.yaml:1:20: train.grad_clip: is \".nan\"; want a number, 0 or more"},
      {"train: {grad_clip: nan}", "f.yaml:1:20: train.grad_clip: is \"nan\"; want a number, 0 or more"},
      {"train: {grad_clip: inf}", "f.yaml:1:20: train.grad_clip: is \"inf\"; want a number, 0 or more"},
      {"train: {grad_clip: 1e999}",
       "f.yaml:1:20: train.grad_clip: is 1e999, which no double can hold; want a number, 0 or more"},
      {"gateway: {insecure: yes}", "f.yaml:1:21: gateway.insecure: is \"yes\"; want true or false"},
      {"gateway: {insecure: 1}", "f.yaml:1:21: gateway.insecure: is 1; want true or false"},
      {"inference: {models: a}",
       "f.yaml:1:21: inference.models: is a single value; want a list, like [a, b]"},
      {"inference: {models: {a: b}}", "f.yaml:1:21: inference.models: is a map; want a list, like [a, b]"},
      {"inference: {models: [a, [b]]}", "f.yaml:1:25: inference.models[1]: is a list; want text"},
      {"inference: {models: [a, ~]}", "f.yaml:1:25: inference.models[1]: has no value; want text"},
      {"train: 5", "f.yaml:1:8: train: is text; want keys and values"},
      {"train:\n  - max_steps: 3", "f.yaml:2:3: train: is a list; want keys and values"},
      {"[a]", "f.yaml:1:1: the document: is a list; want keys and values"},
      {"hello", "f.yaml:1:1: the document: is text; want keys and values"},
      {"? [a]\n: b", "f.yaml:1:3: the document: has a key that is not text"},
      {"train:\n  max_steps: 1\n  seed: 2\n  max_steps: 1",
       "f.yaml:4:3: train.max_steps: given twice; first on line 2"},
      {"train: {}\nmodel: {}\ntrain: {}", "f.yaml:3:1: train: given twice; first on line 1"},
  });
}

TEST(ReadYaml, MalformedYamlNamesThePlace) {
  ExpectMessages({
      {"train: [a", "f.yaml:1:1: not valid YAML: end of sequence flow not found"},
      {"a: b: c", "f.yaml:1:5: not valid YAML: illegal map value"},
      {"train:\n\tmax_steps: 3",
       "f.yaml:2:11: not valid YAML: illegal map value; indent with spaces, not tabs"},
      {"train:\n  max_steps: 3\n model: {}", "f.yaml:3:2: not valid YAML: end of map not found"},
      {"{train: {}} }", "f.yaml:1:13: not valid YAML: illegal flow end"},
      {"gateway: {cors_allow_origin: *}",
       "f.yaml:1:31: not valid YAML: alias not found after *; a value that begins with * needs quotes"},
      {"mesh: *nobody",
       "f.yaml:1:7: not valid YAML: the referenced anchor is not defined; a value that begins with * needs "
       "quotes"},
      {"train: {max_steps: !!int 5}",
       "f.yaml:1:20: not valid YAML: tags such as !!str are not supported; remove it"},
      {"--- {}\n--- {}\n", "f.yaml:2:5: a second document; want one"},
      {"train: {}\n...\nmodel: {}", "f.yaml:3:1: a second document; want one"},
      {"mesh:\n  token_file: \xff", "f.yaml: is not UTF-8 text"},
      // Byte 4 means the end of the text to yaml-cpp: what follows would be lost.
      {"train: {}\n\x04model: {}", "f.yaml:2:1: control character 0x04; want YAML as UTF-8 text"},
      {"mesh: {token_file: \"a\\0b\"}", "f.yaml:1:20: mesh.token_file: holds a NUL character; remove it"},
  });
}

TEST(ReadYaml, SecretsAreNotShown) {
  ExpectMessages({
      {"gateway: {api_keys: hunter2}",
       "f.yaml:1:21: gateway.api_keys: is a single value; want a list, like [a, b], {file: PATH} or {env: "
       "NAME}"},
      {"gateway: {api_keys: [{hunter2: 1}]}",
       "f.yaml:1:22: gateway.api_keys[0]: is a map; want text, {file: PATH} or {env: NAME}"},
      // A gateway must not take the mask of a printed configuration for a key.
      {"gateway: {api_keys: ['***']}",
       "f.yaml:1:22: gateway.api_keys[0]: is ***, the mask that printed configuration shows; give the secret "
       "itself"},
  });
}

TEST(ReadYaml, LongValuesAreCutAtACharacter) {
  EXPECT_EQ(ErrorOf("train: {max_steps: " + Repeated("\u00e9", 4000) + "}"),
            "f.yaml:1:20: train.max_steps: is \"" + Repeated("\u00e9", 60) +
                "...\"; want an integer, 1 to 1000000000 steps");
}

TEST(ReadYaml, SizeDepthAndListsAreBounded) {
  EXPECT_EQ(ErrorOf(Repeated("#", (1 << 20) + 1)),
            "f.yaml: is larger than 1.0 MiB, the most a configuration may have");
  EXPECT_EQ(ErrorOf(Repeated("#", 1 << 20)), "");
  EXPECT_EQ(ErrorOf(Repeated("[", 1 << 20)), "f.yaml:1:9: not valid YAML: nested deeper than 16 levels");
  EXPECT_EQ(ErrorOf(Repeated("{a: ", 1 << 20)), "f.yaml:1:61: not valid YAML: nested deeper than 16 levels");
  EXPECT_EQ(ErrorOf("inference: {models: [" + Repeated("a,", 40000) + "]}"),
            "f.yaml:1:21: inference.models: has 20000 items; want at most 10000");
  EXPECT_EQ(ErrorOf("inference: {models: [" + Repeated("a,", 120000) + "]}"),
            "f.yaml:1:100012: not valid YAML: more than 50000 keys and values");
  EXPECT_EQ(ErrorOf("mesh: {token_file: &a x}\ninference: {models: [" + Repeated("*a ,", 220000) + "]}"),
            "f.yaml:2:199986: not valid YAML: more than 50000 keys and values");
}

TEST(ReadYaml, ABombOfAliasesGoesOffNowhere) {
  std::string yaml = "mesh:\n  token_file: &a0 x\ninference:\n  models:\n";
  for (int i = 1; i < 100; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    yaml += "  - &a" + std::to_string(i) + " [" + before + ", " + before + ", " + before + "]\n";
  }
  EXPECT_EQ(ErrorOf(yaml), "f.yaml:5:5: inference.models[0]: is a list; want text");
  EXPECT_EQ(ErrorOf("&a {train: *a}").substr(0, 37), "f.yaml:1:5: train.train: unknown key;");
}

}  // namespace
}  // namespace bdh::config
