// Proves each rule across keys: just within, just beyond, silent where it does not apply; and that a broken
// one is reported where its keys were given.
#include "rules.h"

#include <gtest/gtest.h>

#include <fstream>

#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::config {
namespace {

std::string ErrorOf(const std::vector<std::string>& sets) {
  return std::string(Load({.file = "", .sets = sets, .environment = {}}).status().message());
}

TEST(Rules, HeadsDivideTheNeurons) {
  EXPECT_EQ(ErrorOf({"model={n_embd: 6, n_head: 3, mlp_internal_dim_multiplier: 2}"}), "");
  EXPECT_EQ(ErrorOf({"model={n_embd: 6, n_head: 5, mlp_internal_dim_multiplier: 2}"}),
            "--set: model.n_embd is 6 and model.mlp_internal_dim_multiplier is 2, together 12, which is not "
            "divisible by 2 * model.n_head = 10; rotary phases act on pairs of neurons of one head: change "
            "model.n_head to a divisor of 6");
}

TEST(Rules, TheScheduleEndsBelowItsPeak) {
  EXPECT_EQ(ErrorOf({"train={min_learning_rate: 0.001, lr_schedule: cosine}"}), "");
  EXPECT_EQ(ErrorOf({"train.min_learning_rate=0.002"}), "") << "constant: it is not used";
  EXPECT_EQ(ErrorOf({"train={min_learning_rate: 0.002, lr_schedule: cosine}"}),
            "--set: train.min_learning_rate is 0.002; want at most train.learning_rate, which is 0.001");
}

TEST(Rules, WarmUpEndsBeforeTraining) {
  EXPECT_EQ(ErrorOf({"train={warmup_steps: 9, max_steps: 10, lr_schedule: linear}"}), "");
  EXPECT_EQ(ErrorOf({"train={warmup_steps: 10, max_steps: 10}"}), "");
  EXPECT_EQ(ErrorOf({"train={warmup_steps: 10, max_steps: 10, lr_schedule: linear}"}),
            "--set: train.warmup_steps is 10; want less than train.max_steps, which is 10: warm-up must end "
            "before training does");
}

TEST(Rules, ABodyFitsIntoAMessage) {
  EXPECT_EQ(ErrorOf({"gateway.max_body_bytes=8384512"}), "");
  EXPECT_EQ(ErrorOf({"gateway.max_body_bytes=8MiB"}),
            "--set: gateway.max_body_bytes is 8388608, so that a body would not fit a message of the mesh "
            "(mesh.max_message_bytes is 8388608); want at most 8384512, or set mesh.max_message_bytes to at "
            "least 8392704");
  EXPECT_EQ(ErrorOf({"gateway.max_body_bytes=8MiB", "mesh.max_message_bytes=9MiB"}), "");
}

TEST(Rules, ACertificateComesWithItsKeyAndAnAuthority) {
  EXPECT_EQ(ErrorOf({"mesh.tls={ca_file: a, cert_file: b, key_file: c}"}), "");
  EXPECT_EQ(ErrorOf({"mesh.tls.ca_file=a"}), "");
  EXPECT_EQ(
      ErrorOf({"mesh.tls={ca_file: a, cert_file: b}"}),
      "--set: mesh.tls.cert_file is set and mesh.tls.key_file is not; a certificate and its key go together");
  EXPECT_EQ(
      ErrorOf({"mesh.tls.key_file=c"}),
      "--set: mesh.tls.key_file is set and mesh.tls.cert_file is not; a certificate and its key go together");
  EXPECT_EQ(
      ErrorOf({"mesh.tls={cert_file: b, key_file: c}"}),
      "--set: mesh.tls.cert_file is set and mesh.tls.ca_file is not; set it to the authority that issued the "
      "mesh's certificates");
}

TEST(Rules, EachPortIsItsOwn) {
  for (const char* daemon : {"data_loader", "trainer_worker", "checkpoint_store", "inference", "gateway"}) {
    const std::string name = daemon;
    EXPECT_EQ(ErrorOf({name + "={listen: 'h:1', admin_listen: 'h:1'}"}),
              "--set: " + name + ".admin_listen is h:1, as is " + name + ".listen; give each its own port");
    EXPECT_EQ(ErrorOf({name + "={listen: 'h:0', admin_listen: 'h:0'}"}), "") << "any free one";
  }
  EXPECT_EQ(ErrorOf({"gateway={http_listen: 'h:1', admin_listen: 'h:1'}"}),
            "--set: gateway.http_listen is h:1, as is gateway.admin_listen; give each its own port");
}

TEST(Rules, ABrokenOneNamesTheLineOfTheKeyThatWasGiven) {
  const TempDirectory folder;
  const std::string path = folder.path() + "/my.yaml";
  std::ofstream(path) << "train:\n  lr_schedule: cosine\n  learning_rate: 1e-5\n  min_learning_rate: 1e-4\n";
  const auto status = Load({.file = path, .sets = {}, .environment = {}}).status();
  EXPECT_EQ(std::string(status.message()),
            path + ":4: train.min_learning_rate is 1e-04; want at most train.learning_rate, which is 1e-05");
}

TEST(Rules, AKeyThatIsWrongItselfIsNotAskedAgain) {
  const auto problems = Problems(
      {.file = "", .sets = {"train.lr_schedule=cosine", "train.min_learning_rate=11"}, .environment = {}});
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0], "--set: train.min_learning_rate: is 11; want 0 to 10");
}

TEST(Rules, HoldForMessagesFromTheWireToo) {
  v1::TrainConfig train;
  train.set_lr_schedule("linear");
  train.set_min_learning_rate(1);
  BDH_EXPECT_OK(Validate(train, "train"));  // Not all of its keys are set.
  train.set_learning_rate(0.5);
  EXPECT_EQ(Validate(train, "train").message(),
            "train.min_learning_rate is 1; want at most train.learning_rate, which is 0.5");
}

TEST(Rules, NameKeysThatAreThere) {
  for (const Rule& rule : Rules()) {
    EXPECT_FALSE(rule.text.empty());
    for (const std::string& key : rule.keys) {
      const size_t point = key.find('.');
      const FieldDescriptor* field = rule.section->FindFieldByName(key.substr(0, point));
      ASSERT_NE(field, nullptr) << key;
      if (point != std::string::npos) {
        EXPECT_NE(field->message_type()->FindFieldByName(key.substr(point + 1)), nullptr) << key;
      }
    }
  }
}

}  // namespace
}  // namespace bdh::config
