#include "json_files.h"

#include <filesystem>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/base/version.h"

namespace bdh::pretrained {
namespace {

constexpr char kModelType[] = "bdh";
// Our key in tokenizer_config.json; the others are Hugging Face's.
constexpr char kTokenizerKey[] = "bdh_tokenizer";
constexpr char kTokenizerConfig[] = "tokenizer_config.json";

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

// Whether `json` has the byte tokenizer's vocabulary and merges nothing.
bool IsByteTokenizer(const Json& json) {
  const auto model = json.find("model");
  const auto byte = tokenizer::Find("byte");
  if (!byte.ok() || model == json.end() || !model->is_object()) return false;
  const nlohmann::json expected = nlohmann::json::parse((*byte)->files()[0].bytes);
  const auto vocabulary = model->find("vocab"), merges = model->find("merges");
  // As maps: the order of keys in a JSON object says nothing.
  return vocabulary != model->end() && nlohmann::json(*vocabulary) == expected["model"]["vocab"] &&
         (merges == model->end() || merges->empty());
}

// tokenizer_config.json with the name, so that whoever reads the folder knows it again.
std::string WithName(const std::string& text, const std::string& name) {
  Json json = Json::parse(text, /*callback=*/nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) json = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
  json[kTokenizerKey] = name;
  return Dump(json);
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

absl::StatusOr<std::vector<tokenizer::TokenizerFile>> TokenizerFilesToSave(const Description& description) {
  if (description.tokenizer_files.empty()) {
    BDH_ASSIGN_OR_RETURN(const auto known, tokenizer::Find(description.tokenizer));
    return known->files();
  }
  BDH_ASSIGN_OR_RETURN(const auto loaded,
                       tokenizer::LoadTokenizer(description.tokenizer, description.tokenizer_files));
  std::vector<tokenizer::TokenizerFile> files;
  std::string config;
  for (const tokenizer::TokenizerFile& file : loaded->files()) {
    if (file.name == kTokenizerConfig) {
      config = file.bytes;
    } else {
      files.push_back(file);
    }
  }
  files.push_back({kTokenizerConfig, WithName(config, description.tokenizer)});
  return files;
}

absl::Status ReadTokenizer(const std::string& folder, Description& description, bool& found) {
  BDH_ASSIGN_OR_RETURN(auto files, tokenizer::ReadTokenizerFiles(folder));
  found = false;
  std::string name;
  bool is_byte = false;
  for (const tokenizer::TokenizerFile& file : files) {
    const bool is_config = file.name == kTokenizerConfig, is_json = file.name == "tokenizer.json";
    found = found || is_json || file.name.ends_with(".model");
    if (!is_config && !is_json) continue;
    const Json json = Json::parse(file.bytes, /*callback=*/nullptr, /*allow_exceptions=*/false);
    if (is_config && json.is_object()) name = Get<std::string>(json, kTokenizerKey).value_or("");
    if (is_json && json.is_object()) is_byte = IsByteTokenizer(json);
  }
  if (name == "byte" || is_byte) {
    description.tokenizer = "byte";
    found = true;
    return absl::OkStatus();
  }
  if (!found) return absl::OkStatus();
  description.tokenizer = IsResourceName(name) ? name : "imported";
  description.tokenizer_files = std::move(files);
  const auto loaded = tokenizer::LoadTokenizer(description.tokenizer, description.tokenizer_files);
  return Annotate(loaded.status(), folder);
}

}  // namespace bdh::pretrained
