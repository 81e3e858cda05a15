// A model that is saved is loaded again to the last bit; what PyTorch wrote is loaded with its wrappers and
// prefixes; and of every file that is wrong the error says with which tensor or which file. The .pt files are
// real ones, see libs/tensorfile/testdata/make_torch_files.py.

#include "bdh/pretrained/pretrained.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <list>
#include <map>
#include <nlohmann/json.hpp>

#include "bdh/base/file.h"
#include "bdh/spec/shape.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/tokenizer/trainer.h"
#include "elements.h"

namespace bdh::pretrained {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr spec::ModelConfig kConfig = {.n_layer = 3,
                                       .n_embd = 4,
                                       .n_head = 2,
                                       .mlp_internal_dim_multiplier = 4,
                                       .vocab_size = 10,
                                       .dropout = 0.25};

// As make_torch_files.py counts.
std::vector<float> Numbers(int64_t count) {
  std::vector<float> numbers;
  for (int64_t i = 0; i < count; ++i) numbers.push_back(static_cast<float>(i * 7 % 31 - 15) / 64);
  return numbers;
}

std::string TorchFile(const std::string& name) {
  return std::string(BDH_SOURCE_DIR "/libs/tensorfile/testdata/") + name;
}

std::string Complaint(const absl::Status& status) {
  EXPECT_FALSE(status.ok());
  return std::string(status.message());
}

template <class T>
std::string_view BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

class PretrainedTest : public ::testing::Test {
 protected:
  PretrainedTest() {
    int shift = 0;  // No two weights shall be alike.
    for (const spec::WeightSpec& want : spec::Weights(kConfig)) {
      auto& values = values_.emplace_back(Numbers(spec::ElementCount(want.shape)));
      for (float& value : values) value = value / 3 + 0.01f * static_cast<float>(shift);
      ++shift;
      weights_.push_back({want.name, want.shape, values});
    }
  }

  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string Text(const std::string& path) const {
    const auto text = ReadFile(Path(path));
    EXPECT_TRUE(text.ok()) << text.status();
    return text.value_or("");
  }
  Json JsonOf(const std::string& path) const { return Json::parse(Text(path)); }
  void Edit(const std::string& path, const std::function<void(Json&)>& change) const {
    Json json = JsonOf(path);
    change(json);
    std::ofstream(Path(path)) << json;
  }
  static Description Described() {
    return {.title = "first",
            .config = kConfig,
            .tokenizer = "byte",
            .record = {.checkpoint = "runs/first/steps/20",
                       .dataset = "rivers",
                       .dataset_hash = "abc",
                       .step = 20,
                       .tokens_seen = 2560,
                       .train_loss = 4.5,
                       .validation_loss = 4.75,
                       .config_yaml = "train:\n  max_steps: 20\n",
                       .software_version = "0.1.0"}};
  }
  absl::Status Save(const std::string& name, const SaveOptions& options = {}) const {
    return SavePretrained(Path(name), Described(), weights_, options);
  }
  void ExpectTheSavedWeights(const PretrainedModel& model) const {
    for (size_t i = 0; i < weights_.size(); ++i) {
      EXPECT_EQ(model.weights()[i].name, weights_[i].name);
      const auto floats = model.Floats(model.weights()[i]);
      ASSERT_TRUE(floats.ok()) << floats.status();
      EXPECT_EQ(*floats, std::vector<float>(weights_[i].values.begin(), weights_[i].values.end()));
    }
    const auto frequencies = model.Floats(model.weights().back());
    ASSERT_TRUE(frequencies.ok()) << frequencies.status();
    EXPECT_EQ(*frequencies, spec::RopeFrequencies(kConfig.neurons_per_head()));
  }

  // A state dict in one file, as `spoil` leaves it.
  using Tensors = std::map<std::string, tensorfile::TensorToWrite>;
  std::string StateDict(const std::function<void(Tensors&)>& spoil) {
    Tensors tensors;
    for (const Weight& weight : weights_) {
      const std::string_view bytes(reinterpret_cast<const char*>(weight.values.data()),
                                   weight.values.size_bytes());
      tensors[weight.name] = {weight.name, "F32", weight.shape, bytes};
    }
    spoil(tensors);
    std::vector<tensorfile::TensorToWrite> list;
    for (const auto& [name, tensor] : tensors) {
      list.push_back(tensor);
      list.back().name = name;
    }
    BDH_EXPECT_OK(tensorfile::WriteSafetensors(Path("state.safetensors"), list));
    return Path("state.safetensors");
  }
  // Bytes that live as long as the test.
  template <class T>
  std::string_view Keep(const std::vector<T>& values) {
    return kept_.emplace_back(BytesOf(values));
  }

  TempDirectory folder_;
  std::list<std::vector<float>> values_;
  std::list<std::string> kept_;
  std::vector<Weight> weights_;
};

TEST_F(PretrainedTest, WhatIsSavedIsLoadedToTheLastBit) {
  BDH_ASSERT_OK(Save("out"));
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model, LoadPretrained(Path("out")));
  EXPECT_EQ(model.config(), kConfig);
  EXPECT_EQ(model.tokenizer(), "byte");
  EXPECT_THAT(model.notes(), ElementsAre());
  EXPECT_EQ(model.record().checkpoint, "runs/first/steps/20");
  EXPECT_EQ(model.record().dataset, "rivers");
  EXPECT_EQ(model.record().step, 20);
  EXPECT_EQ(model.record().tokens_seen, 2560);
  EXPECT_EQ(model.record().train_loss, 4.5);
  EXPECT_EQ(model.record().validation_loss, 4.75);
  EXPECT_EQ(model.record().config_yaml, "train:\n  max_steps: 20\n");
  ExpectTheSavedWeights(model);
  EXPECT_THAT(model.weights().back().shape, ElementsAre(1, 1, 1, 8));  // As the reference has its buffer.
}

TEST_F(PretrainedTest, TheDirectoryIsWhatOtherToolsExpect) {
  BDH_ASSERT_OK(Save("out"));
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(Path("out"))) names.push_back(entry.path().filename());
  EXPECT_THAT(
      names, ::testing::UnorderedElementsAre("README.md", "config.json", "generation_config.json",
                                             "model.safetensors", "tokenizer.json", "tokenizer_config.json"));
  const Json config = JsonOf("out/config.json");
  EXPECT_EQ(config.at("model_type"), "bdh");
  EXPECT_EQ(config.at("n_layer"), 3);
  EXPECT_EQ(config.at("torch_dtype"), "float32");
  const Json vocabulary = JsonOf("out/tokenizer.json").at("model").at("vocab");
  EXPECT_EQ(vocabulary.size(), 256u);
  EXPECT_EQ(vocabulary.at("A"), 65);
  EXPECT_EQ(vocabulary.at("\u0120"), 32);  // How Hugging Face writes a space.
  EXPECT_EQ(vocabulary.at("\u00e9"), 0xe9);
  EXPECT_EQ(vocabulary.at("\u0143"), 0xad);
  const std::string card = Text("out/README.md");
  EXPECT_THAT(card, HasSubstr("# first\n"));
  EXPECT_THAT(card, HasSubstr("| data set | rivers |"));
  EXPECT_THAT(card, HasSubstr("| steps | 20 |"));
  EXPECT_THAT(card, HasSubstr("| validation loss | 4.7500 nats a token |"));
  EXPECT_THAT(card, HasSubstr("  max_steps: 20\n~~~"));
  EXPECT_THAT(card, HasSubstr("trained by | bdh 0.1.0"));
}

TEST_F(PretrainedTest, LargeModelsAreSplitAndPutTogetherAgain) {
  BDH_ASSERT_OK(Save("out", {.max_shard_bytes = 600}));
  EXPECT_FALSE(fs::exists(Path("out/model.safetensors")));
  const Json map = JsonOf("out/model.safetensors.index.json").at("weight_map");
  EXPECT_EQ(map.at("embed.weight"), "model-00001-of-00003.safetensors");
  EXPECT_EQ(map.at("attn.freqs"), "model-00003-of-00003.safetensors");
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model, LoadPretrained(Path("out")));
  ExpectTheSavedWeights(model);
}

TEST_F(PretrainedTest, AnIndexThatLiesIsRefused) {
  const auto with_index = [this](const std::function<void(Json&)>& change) {
    fs::remove_all(Path("out"));
    BDH_EXPECT_OK(Save("out", {.max_shard_bytes = 600}));
    Edit("out/model.safetensors.index.json", [&](Json& index) { change(index["weight_map"]); });
    return Complaint(LoadPretrained(Path("out")).status());
  };
  EXPECT_THAT(with_index([](Json& map) { map["encoder"] = "model-00003-of-00003.safetensors"; }),
              HasSubstr("tensor encoder is not in model-00003-of-00003.safetensors"));
  EXPECT_THAT(with_index([](Json& map) { map.erase("encoder"); }), HasSubstr("tensor encoder is in "));
  EXPECT_THAT(with_index([](Json& map) { map["encoder"] = "../../etc/passwd"; }),
              HasSubstr("tensor encoder a file that is no plain name"));
  EXPECT_THAT(with_index([](Json& map) { map["encoder"] = "absent.safetensors"; }),
              HasSubstr("absent.safetensors"));
  EXPECT_THAT(with_index([](Json& map) { map = 1; }), HasSubstr("has no weight_map"));
}

TEST_F(PretrainedTest, ATensorInTwoShardsIsRefused) {
  BDH_ASSERT_OK(Save("out", {.max_shard_bytes = 600}));
  fs::copy_file(Path("out/model-00001-of-00003.safetensors"), Path("out/model-00003-of-00003.safetensors"),
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(Complaint(LoadPretrained(Path("out")).status()), HasSubstr("and in another shard"));
}

TEST_F(PretrainedTest, Bf16IsTheNearestAndFrequenciesStayWhole) {
  BDH_ASSERT_OK(Save("out", {.dtype = SavedType::kBf16}));
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model, LoadPretrained(Path("out")));
  EXPECT_EQ(JsonOf("out/config.json").at("torch_dtype"), "bfloat16");
  double largest = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    EXPECT_EQ(model.weights()[i].dtype, "BF16");
    BDH_ASSERT_OK_AND_ASSIGN(const auto floats, model.Floats(model.weights()[i]));
    for (size_t k = 0; k < floats.size(); ++k) {
      const double value = weights_[i].values[k];
      if (value != 0) largest = std::max(largest, std::abs(floats[k] - value) / std::abs(value));
    }
  }
  EXPECT_LE(largest, 0x1p-8);
  EXPECT_GE(largest, 0x1p-10);  // Rounded it is.
  EXPECT_EQ(model.weights().back().dtype, "F32");
  BDH_ASSERT_OK_AND_ASSIGN(const auto frequencies, model.Floats(model.weights().back()));
  EXPECT_EQ(frequencies, spec::RopeFrequencies(8));
}

TEST_F(PretrainedTest, FrequenciesOfItsOwnStayWithAModel) {
  const std::vector<float> own = {0.5f, 0.5f, 0.25f, 0.25f, 0.125f, 0.125f, 0.0625f, 0.0625f};
  weights_.push_back({spec::kFrequenciesName, {8}, own});
  BDH_ASSERT_OK(Save("out"));
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model, LoadPretrained(Path("out")));
  BDH_ASSERT_OK_AND_ASSIGN(const auto frequencies, model.Floats(model.weights().back()));
  EXPECT_EQ(frequencies, own);
}

TEST_F(PretrainedTest, ADirectoryIsMadeWholeOrNotAtAll) {
  values_.back()[7] = std::nanf("");
  EXPECT_THAT(Complaint(Save("out")), HasSubstr("tensor lm_head holds nan at element 7"));
  values_.back()[7] = 0;
  const Weight last = weights_.back();
  weights_.pop_back();
  EXPECT_THAT(Complaint(Save("out")), HasSubstr("tensor lm_head [4, 10] is missing"));
  weights_.push_back({last.name, {10, 4}, last.values});
  EXPECT_THAT(Complaint(Save("out")), HasSubstr("tensor lm_head has shape [10, 4]"));
  EXPECT_TRUE(fs::is_empty(folder_.path()));

  weights_.back() = last;
  fs::create_directories(Path("full/of"));
  EXPECT_EQ(Save("full").code(), absl::StatusCode::kAlreadyExists);
  fs::create_directories(Path("empty"));
  BDH_EXPECT_OK(Save("empty"));
  BDH_EXPECT_OK(Save("deeper/than/before/"));
  EXPECT_EQ(Save("empty").code(), absl::StatusCode::kAlreadyExists);
  size_t entries = 0;
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    EXPECT_FALSE(entry.path().extension() == ".tmp") << entry;
    ++entries;
  }
  EXPECT_EQ(entries, 3u);
}

TEST_F(PretrainedTest, AStateDictOfPyTorchNeedsOnlyItsDepth) {
  EXPECT_THAT(Complaint(LoadPretrained(TorchFile("state_dict.pt")).status()),
              HasSubstr("nothing says n_layer"));
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model,
                           LoadPretrained(TorchFile("state_dict.pt"), {.n_layer = 3}));
  spec::ModelConfig config = kConfig;
  config.dropout = 0;  // Nobody says it.
  EXPECT_EQ(model.config(), config);
  EXPECT_THAT(model.notes(), ElementsAre(HasSubstr("no tokenizer files")));
  for (const WeightInfo& weight : model.weights()) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto floats, model.Floats(weight));
    EXPECT_EQ(floats, weight.name == spec::kFrequenciesName ? spec::RopeFrequencies(8)
                                                            : Numbers(static_cast<int64_t>(floats.size())));
  }
}

TEST_F(PretrainedTest, ATrainingCheckpointOfPyTorchIsTakenAsItIs) {
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model, LoadPretrained(TorchFile("training.pt")));
  EXPECT_EQ(model.config().n_layer, 3);
  EXPECT_EQ(model.config().dropout, 0.1);
  EXPECT_EQ(model.record().step, 1234);
  EXPECT_EQ(model.weights()[1].name, "encoder");
  EXPECT_EQ(model.weights()[1].found_as, "_orig_mod.module.encoder");
  EXPECT_EQ(model.weights()[1].dtype, "BF16");
  BDH_ASSERT_OK_AND_ASSIGN(const auto encoder, model.Floats(model.weights()[1]));
  EXPECT_EQ(encoder, Numbers(64));
  EXPECT_THAT(model.notes(), ::testing::Contains(HasSubstr("left out _orig_mod.module.lm_gate")));
}

TEST_F(PretrainedTest, HalvesDoublesAndViewsAreTaken) {
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model,
                           LoadPretrained(TorchFile("views.pth"), {.n_layer = 1}));
  std::map<std::string, std::string> types;
  for (const WeightInfo& weight : model.weights()) {
    types[weight.name] = weight.dtype;
    BDH_ASSERT_OK_AND_ASSIGN(const auto floats, model.Floats(weight));
    if (weight.name != spec::kFrequenciesName) {
      EXPECT_EQ(floats, Numbers(static_cast<int64_t>(floats.size()))) << weight.name;
    }
  }
  EXPECT_EQ(types["lm_head"], "F16");
  EXPECT_EQ(types["decoder"], "F64");
  EXPECT_EQ(types["encoder"], "F32");
}

TEST_F(PretrainedTest, WhatIsNoStateDictIsRefused) {
  EXPECT_THAT(Complaint(LoadPretrained(TorchFile("whole_module.pt")).status()), HasSubstr("__main__.BDH"));
  EXPECT_THAT(Complaint(LoadPretrained(TorchFile("old_format.pt")).status()),
              HasSubstr("before PyTorch 1.6"));
  for (const std::string& absent : {Path("absent"), std::string("/dev/zero")}) {
    EXPECT_EQ(LoadPretrained(absent).status().code(), absl::StatusCode::kNotFound) << absent;
  }
  fs::create_directories(Path("nothing"));
  EXPECT_THAT(Complaint(LoadPretrained(Path("nothing")).status()),
              HasSubstr("has no weights; want model.safe"));
  std::ofstream(Path("text.pt")) << "just some words";
  EXPECT_THAT(Complaint(LoadPretrained(Path("text.pt")).status()), HasSubstr("no safetensors file"));
}

TEST_F(PretrainedTest, EveryWrongTensorIsNamed) {
  struct Case {
    std::function<void(Tensors&)> spoil;
    const char* complaint;
  };
  const std::vector<int64_t> integers(40, 1);
  const Case cases[] = {
      {[](auto& t) { t.erase("decoder"); }, "tensor decoder [16, 4] is missing"},
      {[](auto& t) { t.erase("encoder"); }, "tensor encoder [n_head, n_embd, neurons of a head] is missing"},
      {[](auto& t) {
         t["decoder"].shape = {4, 16};
       },
       "tensor decoder has shape [4, 16]; want [16, 4]"},
      {[](auto& t) {
         t["encoder"].shape = {8, 8};
       },
       "tensor encoder has shape [8, 8]; want [n_head"},
      {[](auto& t) {
         t["encoder"].shape = {2, 32, 1};
       },
       "n_embd"},
      {[](auto& t) {
         t["encoder"].shape = {64, 1, 1};
       },
       "tensor"},
      {[](auto& t) { t["extra.weight"] = t["decoder"]; }, "tensor extra.weight is no weight of a BDH"},
      {[](auto& t) { t["module.encoder"] = t["encoder"]; }, "is encoder, and so is tensor"},
      {[&](auto& t) {
         t["lm_head"] = {"", "I64", {4, 10}, BytesOf(integers)};
       },
       "tensor lm_head is of type I64; want F32, F16, BF16 or F64"},
      {[](auto& t) {
         t[spec::kFrequenciesName] = {"", "F32", {4}, t["encoder"].bytes.substr(0, 16)};
       },
       "tensor attn.freqs has shape [4]; want [1, 1, 1, 8]"},
  };
  for (const Case& test : cases) {
    const auto model = LoadPretrained(StateDict(test.spoil), {.n_layer = 2});
    EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument) << test.complaint;
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(test.complaint));
  }
}

TEST_F(PretrainedTest, NumbersThatAreNoneAreNamed) {
  for (const float bad : {std::nanf(""), INFINITY}) {
    std::vector<float> values = Numbers(64);
    values[5] = bad;
    const std::string path = StateDict([&](auto& t) { t["encoder_v"].bytes = Keep(values); });
    BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model, LoadPretrained(path, {.n_layer = 2}));
    EXPECT_THAT(Complaint(model.Floats(model.weights()[2]).status()),
                ::testing::ContainsRegex("tensor encoder_v holds (nan|inf) at element 5"));
  }
  // A double that float32 cannot hold.
  std::vector<double> values(64, 1e300);
  const std::string path = StateDict([&](auto& t) { t["encoder"] = {"", "F64", {2, 4, 8}, Keep(values)}; });
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model, LoadPretrained(path, {.n_layer = 2}));
  EXPECT_THAT(Complaint(model.Floats(model.weights()[1]).status()), HasSubstr("tensor encoder holds inf"));
}

TEST_F(PretrainedTest, CoarseFrequenciesAreTakenOnlyWhereNothingIsLost) {
  std::vector<uint16_t> halves(8);
  const std::string rounded = ToBf16(spec::RopeFrequencies(8));
  std::memcpy(halves.data(), rounded.data(), rounded.size());
  const auto load = [&] {
    return LoadPretrained(StateDict([&](auto& t) {
                            t[spec::kFrequenciesName] = {"", "BF16", {1, 1, 1, 8}, Keep(halves)};
                          }),
                          {.n_layer = 2});
  };
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model, load());
  BDH_ASSERT_OK_AND_ASSIGN(const auto frequencies, model.Floats(model.weights().back()));
  EXPECT_EQ(frequencies, spec::RopeFrequencies(8));
  EXPECT_THAT(model.notes(), ::testing::Contains(HasSubstr("attn.freqs is rounded to BF16")));
  halves[2] += 4;
  EXPECT_THAT(Complaint(load().status()), HasSubstr("tensor attn.freqs is of type BF16 and not a rounding"));
}

TEST_F(PretrainedTest, AConfigThatContradictsTheWeightsIsRefused) {
  const std::pair<std::function<void(Json&)>, const char*> cases[] = {
      {[](Json& c) { c["n_head"] = 4; }, "n_head is 4, but tensor encoder shows 2"},
      {[](Json& c) { c["vocab_size"] = 256; }, "vocab_size is 256, but tensor embed.weight shows 10"},
      {[](Json& c) { c["n_layer"] = "3"; }, "n_layer is \"3\"; want a whole number"},
      {[](Json& c) { c["n_layer"] = 0; }, "n_layer is 0; want 1 to"},
      {[](Json& c) { c["dropout"] = 1; }, "dropout is 1"},
      {[](Json& c) { c["model_type"] = "llama"; }, "model_type is 'llama'"},
      {[](Json& c) { c.erase("n_layer"); }, "nothing says n_layer"},
      {[](Json& c) { c = Json::array(); }, "config.json: is not a JSON object"},
  };
  for (const auto& [change, complaint] : cases) {
    fs::remove_all(Path("out"));
    BDH_ASSERT_OK(Save("out"));
    Edit("out/config.json", change);
    EXPECT_THAT(Complaint(LoadPretrained(Path("out")).status()), HasSubstr(complaint));
  }
  fs::remove_all(Path("out"));
  BDH_ASSERT_OK(Save("out"));
  EXPECT_THAT(Complaint(LoadPretrained(Path("out"), {.n_layer = 4}).status()),
              HasSubstr("n_layer is given as 4, but"));
  std::ofstream(Path("out/config.json")) << std::string(kMaxJsonBytes + 1, ' ');
  EXPECT_THAT(Complaint(LoadPretrained(Path("out")).status()), HasSubstr("want at most 16777216"));
}

TEST_F(PretrainedTest, AByteTokenizerIsKnownByItsVocabulary) {
  BDH_ASSERT_OK(Save("out"));
  fs::remove(Path("out/tokenizer_config.json"));
  BDH_EXPECT_OK(LoadPretrained(Path("out")).status());  // Its vocabulary shows what it is.
  Edit("out/tokenizer.json", [](Json& json) { json["model"]["vocab"]["the"] = 256; });
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model, LoadPretrained(Path("out")));
  EXPECT_EQ(model.tokenizer(), "imported");
  Edit("out/tokenizer.json", [](Json& json) { json["decoder"]["type"] = "CTC"; });
  EXPECT_THAT(Complaint(LoadPretrained(Path("out")).status()), HasSubstr("decoder.type is \"CTC\""));
}

TEST_F(PretrainedTest, ATokenizerComesBackWithItsNameAndItsFiles) {
  auto options = tokenizer::TrainerOptions{
      .vocab_size = 300, .special_tokens = {}, .split = "", .chat_template = "{{ x }}"};
  BDH_ASSERT_OK_AND_ASSIGN(const auto trainer, tokenizer::TokenizerTrainer::Create(options));
  trainer->Add("the cat and the hat and the bat");
  Description description = Described();
  description.tokenizer = "small";
  BDH_ASSERT_OK_AND_ASSIGN(description.tokenizer_files, trainer->Finish());
  BDH_ASSERT_OK(SavePretrained(Path("out"), description, weights_));
  BDH_ASSERT_OK_AND_ASSIGN(const PretrainedModel model, LoadPretrained(Path("out")));
  EXPECT_EQ(model.tokenizer(), "small");
  BDH_ASSERT_OK_AND_ASSIGN(const auto before, tokenizer::LoadTokenizer("small", description.tokenizer_files));
  BDH_ASSERT_OK_AND_ASSIGN(const auto after, tokenizer::LoadTokenizer("small", model.tokenizer_files()));
  EXPECT_EQ(after->chat_template(), "{{ x }}");
  std::vector<int32_t> tokens, same;
  before->Encode("the cat that bit<|endoftext|>", tokens);
  after->Encode("the cat that bit<|endoftext|>", same);
  EXPECT_EQ(tokens, same);
  EXPECT_LT(tokens.size(), 20u);
}

TEST(ElementsTest, HalvesOfEveryKindAreRead) {
  const std::vector<uint16_t> halves = {0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0x8000, 0x3555};
  const std::vector<float> floats = ToFloats(BytesOf(halves), "F16");
  EXPECT_THAT(floats, ElementsAre(1, -2, 0x1p-24f, 1023 * 0x1p-24f, 65504, 0, 0x1.554p-2f));
  EXPECT_TRUE(std::signbit(floats[5]));
  const std::vector<uint16_t> odd = {0x7c00, 0xfc00, 0x7e00};
  const std::vector<float> others = ToFloats(BytesOf(odd), "F16");
  EXPECT_TRUE(std::isinf(others[0]) && std::isinf(others[1]) && std::isnan(others[2]));
}

TEST(ElementsTest, Bf16RoundsToTheNearestAndTiesToEven) {
  const std::vector<float> values = {1, 1 + 0x1p-8f, 1 + 0x1.8p-7f, 1 + 0x1.1p-8f, -3.140625f, 0};
  EXPECT_THAT(ToFloats(ToBf16(values), "BF16"), ElementsAre(1, 1, 1 + 0x1p-6f, 1 + 0x1p-7f, -3.140625f, 0));
}

}  // namespace
}  // namespace bdh::pretrained
