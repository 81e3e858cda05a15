#include "json_files.h"

#include <filesystem>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/version.h"

namespace bdh::pretrained {
namespace {

constexpr char kModelType[] = "bdh";
// Our key in tokenizer_config.json; the others are Hugging Face's.
constexpr char kTokenizerKey[] = "bdh_tokenizer";
constexpr int kBytes = 256;

constexpr std::pair<const char*, std::optional<int> PartialConfig::*> kIntegers[] = {
    {"n_layer", &PartialConfig::n_layer},
    {"n_embd", &PartialConfig::n_embd},
    {"n_head", &PartialConfig::n_head},
    {"mlp_internal_dim_multiplier", &PartialConfig::mlp_internal_dim_multiplier},
    {"vocab_size", &PartialConfig::vocab_size},
};

std::string Dump(const Json& json) {
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

template <class T>
std::optional<T> Get(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!found->is_string()) return std::nullopt;
  } else if constexpr (std::is_same_v<T, double>) {
    if (!found->is_number()) return std::nullopt;
  } else {
    if (!found->is_number_integer()) return std::nullopt;
  }
  return found->get<T>();
}

std::string Utf8(uint32_t character) {  // Below U+0800.
  if (character < 0x80) return std::string(1, static_cast<char>(character));
  return {static_cast<char>(0xc0 | character >> 6), static_cast<char>(0x80 | (character & 0x3f))};
}

// The character by which Hugging Face's ByteLevel writes each byte: itself where it is printable, one from
// U+0100 on in order where it is not.
std::vector<std::string> ByteCharacters() {
  std::vector<std::string> characters;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < kBytes; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    characters.push_back(Utf8(printable ? byte : next++));
  }
  return characters;
}

// Whether `json` has the one vocabulary of ByteTokenizerJson and merges nothing.
bool IsByteTokenizer(const Json& json) {
  const auto model = json.find("model");
  if (model == json.end() || !model->is_object()) return false;
  const Json expected = Json::parse(ByteTokenizerJson());
  const auto vocabulary = model->find("vocab"), merges = model->find("merges");
  // As maps: the order of keys in a JSON object says nothing.
  return vocabulary != model->end() &&
         nlohmann::json(*vocabulary) == nlohmann::json(expected["model"]["vocab"]) &&
         (merges == model->end() || merges->empty());
}

}  // namespace

absl::StatusOr<Json> ReadJson(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (!error && size > kMaxJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: has %d bytes; want at most %d", path, size, kMaxJsonBytes));
  }
  BDH_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  Json json = Json::parse(text, /*callback=*/nullptr, /*allow_exceptions=*/false);
  if (json.is_object()) return json;
  return absl::InvalidArgumentError(absl::StrFormat("%s: is not a JSON object", path));
}

absl::StatusOr<PartialConfig> ReadPartialConfig(const Json& json, const std::string& from) {
  if (const auto type = Get<std::string>(json, "model_type"); type && *type != kModelType) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: model_type is '%s'; this release knows '%s'", from, *type, kModelType));
  }
  PartialConfig config{.from = from};
  for (const auto& [field, member] : kIntegers) {
    const auto found = json.find(field);
    if (found == json.end()) continue;
    const bool fits = found->is_number_integer() && found->get<double>() >= 0 &&
                      found->get<double>() <= std::numeric_limits<int>::max();
    if (!fits) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: %s is %s; want a whole number of at most 31 bits", from, field, found->dump()));
    }
    config.*member = found->get<int>();
  }
  if (const auto dropout = json.find("dropout"); dropout != json.end()) {
    if (!dropout->is_number()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: dropout is %s; want a number", from, dropout->dump()));
    }
    config.dropout = dropout->get<double>();
  }
  return config;
}

TrainingRecord ReadRecord(const Json& config) {
  TrainingRecord record;
  const auto training = config.find("training");
  if (training == config.end() || !training->is_object()) return record;
  record.checkpoint = Get<std::string>(*training, "checkpoint").value_or("");
  record.dataset = Get<std::string>(*training, "dataset").value_or("");
  record.dataset_hash = Get<std::string>(*training, "dataset_hash").value_or("");
  record.step = Get<int64_t>(*training, "step").value_or(0);
  record.tokens_seen = Get<int64_t>(*training, "tokens_seen").value_or(0);
  record.train_loss = Get<double>(*training, "train_loss");
  record.validation_loss = Get<double>(*training, "validation_loss");
  record.config_yaml = Get<std::string>(*training, "config_yaml").value_or("");
  record.software_version = Get<std::string>(*training, "software_version").value_or("");
  return record;
}

std::string ConfigJson(const Description& description, SavedType dtype) {
  const spec::ModelConfig& config = description.config;
  const TrainingRecord& record = description.record;
  Json training = {{"checkpoint", record.checkpoint},
                   {"dataset", record.dataset},
                   {"dataset_hash", record.dataset_hash},
                   {"step", record.step},
                   {"tokens_seen", record.tokens_seen}};
  if (record.train_loss) training["train_loss"] = *record.train_loss;
  if (record.validation_loss) training["validation_loss"] = *record.validation_loss;
  training["config_yaml"] = record.config_yaml;
  training["software_version"] = record.software_version;
  return Dump({{"architectures", {"BDH"}},
               {"model_type", kModelType},
               {"n_layer", config.n_layer},
               {"n_embd", config.n_embd},
               {"n_head", config.n_head},
               {"mlp_internal_dim_multiplier", config.mlp_internal_dim_multiplier},
               {"vocab_size", config.vocab_size},
               {"dropout", config.dropout},
               {"tie_word_embeddings", false},
               {"torch_dtype", dtype == SavedType::kBf16 ? "bfloat16" : "float32"},
               {"bdh_version", std::string(Version())},
               {"training", std::move(training)}});
}

std::string GenerationConfigJson() {
  return Dump({{"do_sample", true}, {"temperature", 1.0}, {"top_k", 0}, {"top_p", 1.0}});
}

std::string ByteTokenizerJson() {
  Json vocabulary = Json::object();
  const std::vector<std::string> characters = ByteCharacters();
  for (int byte = 0; byte < kBytes; ++byte) vocabulary[characters[byte]] = byte;
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  return Dump({{"version", "1.0"},
               {"truncation", nullptr},
               {"padding", nullptr},
               {"added_tokens", Json::array()},
               {"normalizer", nullptr},
               {"pre_tokenizer", byte_level},
               {"post_processor", nullptr},
               {"decoder", byte_level},
               {"model",
                {{"type", "BPE"},
                 {"dropout", nullptr},
                 {"unk_token", nullptr},
                 {"continuing_subword_prefix", nullptr},
                 {"end_of_word_suffix", nullptr},
                 {"fuse_unk", false},
                 {"byte_fallback", false},
                 {"vocab", std::move(vocabulary)},
                 {"merges", Json::array()}}}});
}

std::string TokenizerConfigJson(const tokenizer::Tokenizer& tokenizer) {
  return Dump({{"tokenizer_class", "PreTrainedTokenizerFast"},
               {"clean_up_tokenization_spaces", false},
               {"model_input_names", {"input_ids"}},
               {kTokenizerKey, std::string(tokenizer.name())},
               {"vocab_size", tokenizer.vocab_size()},
               {"description", "One token a byte: the text's UTF-8 bytes are the ids, 0 to 255."}});
}

absl::StatusOr<std::string> ReadTokenizerName(const std::string& folder) {
  const std::string config = folder + "/tokenizer_config.json", tokens = folder + "/tokenizer.json";
  std::error_code error;
  if (std::filesystem::is_regular_file(config, error)) {
    BDH_ASSIGN_OR_RETURN(const Json json, ReadJson(config));
    if (const auto name = Get<std::string>(json, kTokenizerKey); name.has_value()) {
      const auto known = tokenizer::Find(*name);
      if (known.ok()) return *name;
      return absl::InvalidArgumentError(absl::StrFormat("%s: %s", config, known.status().message()));
    }
  }
  if (!std::filesystem::is_regular_file(tokens, error)) return std::string();
  BDH_ASSIGN_OR_RETURN(const Json json, ReadJson(tokens));
  if (IsByteTokenizer(json)) return std::string("byte");
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: is not the byte tokenizer (256 tokens, no merges), the only one this release reads; "
      "without the file the model is taken as one over bytes",
      tokens));
}

}  // namespace bdh::pretrained
