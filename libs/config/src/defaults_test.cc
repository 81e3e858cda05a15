// Proves that defaults fill what is unset and nothing else, that messages from the wire are checked by the
// same rules as files, and that the schema holds only what this library can read.
#include <gtest/gtest.h>

#include <cmath>

#include "bdh/config/config.h"
#include "bdh/testing/status_matchers.h"
#include "schema.h"

namespace bdh::config {
namespace {

TEST(Schema, EveryKeyIsOfAKindThatYamlCanGive) {
  for (const Leaf& leaf : Leaves(*v1::Config::descriptor())) {
    EXPECT_NE(leaf.field->cpp_type(), FieldDescriptor::CPPTYPE_MESSAGE) << leaf.path;
    EXPECT_NE(leaf.field->cpp_type(), FieldDescriptor::CPPTYPE_ENUM) << leaf.path;
    EXPECT_NE(leaf.field->cpp_type(), FieldDescriptor::CPPTYPE_FLOAT) << leaf.path;
    EXPECT_NE(leaf.field->type(), FieldDescriptor::TYPE_BYTES) << leaf.path;
    EXPECT_TRUE(leaf.field->is_repeated() || leaf.field->has_presence()) << leaf.path << " must be optional";
  }
}

TEST(Schema, VariablesOfDifferentKeysHaveDifferentNames) {
  std::map<std::string, std::string> names;
  for (const Leaf& leaf : Leaves(*v1::Config::descriptor())) {
    std::string name = leaf.path;
    for (char& c : name) c = c == '.' ? '_' : c;
    EXPECT_TRUE(names.emplace(name, leaf.path).second) << leaf.path << " and " << names[name];
  }
}

TEST(FillDefaults, MakesEverySectionAndEveryScalarThatHasADefault) {
  v1::Config config;
  FillDefaults(config);
  EXPECT_TRUE(config.has_mesh() && config.has_data_loader() && config.has_trainer_worker());
  EXPECT_TRUE(config.has_checkpoint_store() && config.has_inference() && config.has_gateway());
  EXPECT_TRUE(config.has_model() && config.has_train());
  EXPECT_EQ(config.train().max_steps(), 3000);
  EXPECT_EQ(config.train().adam_eps(), 1e-8);
  EXPECT_EQ(config.train().lr_schedule(), "constant");
  EXPECT_TRUE(config.gateway().has_insecure());
  EXPECT_FALSE(config.mesh().has_token_file()) << "has no default";
  BDH_EXPECT_OK(Validate(config));
}

TEST(FillDefaults, LeavesWhatIsGiven) {
  v1::TrainConfig train;
  train.set_warmup_steps(0);
  train.set_max_steps(5);
  FillDefaults(train);
  EXPECT_EQ(train.max_steps(), 5);
  EXPECT_EQ(train.batch_size(), 32);
  const std::string once = train.SerializeAsString();
  FillDefaults(train);
  EXPECT_EQ(train.SerializeAsString(), once);
}

TEST(Validate, NamesThePathAndTheRange) {
  v1::TrainConfig train;
  BDH_EXPECT_OK(Validate(train, "train"));  // What is unset is not checked.
  train.set_beta1(1.5);
  EXPECT_EQ(Validate(train, "train").message(), "train.beta1 is 1.5; want 0 to 0.999999");
  EXPECT_EQ(Validate(train).message(), "beta1 is 1.5; want 0 to 0.999999");
  EXPECT_EQ(Validate(train).code(), absl::StatusCode::kInvalidArgument);
  v1::Config config;
  *config.mutable_train() = train;
  EXPECT_EQ(Validate(config).message(), "train.beta1 is 1.5; want 0 to 0.999999");
}

TEST(Validate, ChecksNumbersAndTextsFromTheWire) {
  v1::TrainConfig train;
  train.set_learning_rate(std::nan(""));
  EXPECT_EQ(Validate(train).message(), "learning_rate is nan; want a number, 0 to 10");
  train.set_learning_rate(INFINITY);
  EXPECT_EQ(Validate(train).message(), "learning_rate is inf; want a number, 0 to 10");
  train.set_learning_rate(0.1);
  train.set_lr_schedule("step");
  EXPECT_EQ(Validate(train).message(), "lr_schedule is \"step\"; want constant, linear or cosine");
  v1::ModelConfig model;
  model.set_n_layer(-1);
  EXPECT_EQ(Validate(model, "model").message(), "model.n_layer is -1; want 1 to 1024");
  v1::Config config;
  config.mutable_inference()->add_models("a");
  config.mutable_inference()->add_models(std::string("a\0b", 3));
  EXPECT_EQ(Validate(config).message(), "inference.models[1] holds a NUL character; remove it");
}

TEST(Validate, LimitsThemselvesAreFine) {
  v1::TrainConfig train;
  train.set_max_steps(1000000000);
  train.set_beta1(0.999999);
  train.set_seed(18446744073709551615u);
  BDH_EXPECT_OK(Validate(train));
}

}  // namespace
}  // namespace bdh::config
