#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "bdh/pretrained/pretrained.h"
#include "bdh/spec/shape.h"
#include "bdh/tensorfile/safetensors.h"
#include "elements.h"
#include "json_files.h"
#include "model_card.h"

namespace bdh::pretrained {
namespace {

namespace fs = std::filesystem;
using tensorfile::TensorToWrite;

std::string_view BytesOf(std::span<const float> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

const Weight* Find(std::span<const Weight> weights, std::string_view name) {
  const auto found =
      std::find_if(weights.begin(), weights.end(), [&](const Weight& weight) { return weight.name == name; });
  return found == weights.end() ? nullptr : &*found;
}

absl::StatusOr<const Weight*> FindChecked(std::span<const Weight> weights, const spec::WeightSpec& want) {
  const Weight* weight = Find(weights, want.name);
  if (weight == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s %s is missing", want.name, spec::ShapeText(want.shape)));
  }
  if (weight->shape != want.shape || std::ssize(weight->values) != spec::ElementCount(want.shape)) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s has shape %s and %d elements; want %s",
                                                      want.name, spec::ShapeText(weight->shape),
                                                      weight->values.size(), spec::ShapeText(want.shape)));
  }
  BDH_RETURN_IF_ERROR(CheckFinite(weight->name, weight->values));
  return weight;
}

// What goes into the files, in the order of the reference, and the bytes that are not the caller's.
struct Contents {
  std::vector<TensorToWrite> tensors;
  std::vector<std::string> converted;
  std::vector<float> frequencies;
};

absl::Status AddFrequencies(const spec::ModelConfig& config, std::span<const Weight> weights,
                            Contents& contents) {
  const int64_t neurons = config.neurons_per_head();
  contents.frequencies = spec::RopeFrequencies(neurons);
  if (const Weight* stored = Find(weights, spec::kFrequenciesName)) {
    if (std::ssize(stored->values) != neurons) {
      return absl::InvalidArgumentError(absl::StrFormat("tensor %s has %d elements; want %d", stored->name,
                                                        stored->values.size(), neurons));
    }
    BDH_RETURN_IF_ERROR(CheckFinite(stored->name, stored->values));
    contents.frequencies.assign(stored->values.begin(), stored->values.end());
  }
  // The shape of the reference's buffer.
  contents.tensors.push_back(
      {spec::kFrequenciesName, "F32", {1, 1, 1, neurons}, BytesOf(contents.frequencies)});
  return absl::OkStatus();
}

absl::StatusOr<Contents> Arrange(const spec::ModelConfig& config, std::span<const Weight> weights,
                                 SavedType dtype) {
  Contents contents;
  const auto wanted = spec::Weights(config);
  contents.converted.reserve(wanted.size());  // The tensors point into it.
  for (const spec::WeightSpec& want : wanted) {
    BDH_ASSIGN_OR_RETURN(const Weight* weight, FindChecked(weights, want));
    TensorToWrite tensor{want.name, "F32", want.shape, BytesOf(weight->values)};
    if (dtype == SavedType::kBf16) {
      tensor.dtype = "BF16";
      tensor.bytes = contents.converted.emplace_back(ToBf16(weight->values));
    }
    contents.tensors.push_back(std::move(tensor));
  }
  BDH_RETURN_IF_ERROR(AddFrequencies(config, weights, contents));
  return contents;
}

using Shard = std::vector<TensorToWrite>;

std::vector<Shard> Split(const std::vector<TensorToWrite>& tensors, uint64_t max_bytes) {
  std::vector<Shard> shards(1);
  uint64_t filled = 0;
  for (const TensorToWrite& tensor : tensors) {
    if (!shards.back().empty() && filled + tensor.bytes.size() > max_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    filled += tensor.bytes.size();
    shards.back().push_back(tensor);
  }
  return shards;
}

absl::Status WriteWeights(const fs::path& folder, const std::vector<TensorToWrite>& tensors,
                          uint64_t max_shard_bytes) {
  const std::map<std::string, std::string> metadata = {{"format", "pt"}};  // Transformers asks for it.
  const std::vector<Shard> shards = Split(tensors, max_shard_bytes);
  if (shards.size() == 1) {
    return tensorfile::WriteSafetensors((folder / "model.safetensors").string(), tensors, metadata);
  }
  Json weight_map = Json::object();
  uint64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
    BDH_RETURN_IF_ERROR(tensorfile::WriteSafetensors((folder / name).string(), shards[i], metadata));
    for (const TensorToWrite& tensor : shards[i]) {
      weight_map[tensor.name] = name;
      total += tensor.bytes.size();
    }
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}};
  return WriteFileAtomically((folder / "model.safetensors.index.json").string(), index.dump(2) + "\n");
}

absl::Status WriteTexts(const fs::path& folder, const Description& description,
                        const std::vector<tokenizer::TokenizerFile>& tokenizer, SavedType dtype) {
  const std::pair<const char*, std::string> files[] = {
      {"config.json", ConfigJson(description, dtype)},
      {"generation_config.json", GenerationConfigJson()},
      {"README.md", ModelCard(description, dtype)},
  };
  for (const auto& [name, text] : files) {
    BDH_RETURN_IF_ERROR(WriteFileAtomically((folder / name).string(), text));
  }
  for (const tokenizer::TokenizerFile& file : tokenizer) {
    BDH_RETURN_IF_ERROR(WriteFileAtomically((folder / file.name).string(), file.bytes));
  }
  return absl::OkStatus();
}

// Renaming onto a folder replaces it only if it is empty, which is what is wanted.
absl::Status MoveInto(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) {
    return absl::AlreadyExistsError(
        absl::StrFormat("%s is there already; name another folder, or remove it", to));
  }
  return ErrnoStatus(errno, absl::StrFormat("rename to %s", to));
}

}  // namespace

absl::Status SavePretrained(const std::string& folder, const Description& description,
                            std::span<const Weight> weights, const SaveOptions& options) {
  BDH_RETURN_IF_ERROR(spec::Validate(description.config));
  BDH_ASSIGN_OR_RETURN(const auto tokenizer, TokenizerFilesToSave(description));
  BDH_ASSIGN_OR_RETURN(const Contents contents, Arrange(description.config, weights, options.dtype));
  fs::path target = fs::path(folder).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();  // "out/" means "out".
  if (target.empty()) return absl::InvalidArgumentError("the folder's name is empty");
  std::error_code error;
  if (fs::exists(target, error) && !(fs::is_directory(target, error) && fs::is_empty(target, error))) {
    return absl::AlreadyExistsError(
        absl::StrFormat("%s is there already; name another folder, or remove it", target.string()));
  }
  const fs::path parent = target.has_parent_path() ? target.parent_path() : fs::path(".");
  BDH_RETURN_IF_ERROR(MakeDirectories(parent.string()));
  const std::string temporary = absl::StrFormat("%s.%s.tmp", target.string(), RandomHex(4));
  BDH_RETURN_IF_ERROR(MakeDirectories(temporary));
  auto remove = absl::MakeCleanup([&] {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
  });
  BDH_RETURN_IF_ERROR(WriteWeights(temporary, contents.tensors, options.max_shard_bytes));
  BDH_RETURN_IF_ERROR(WriteTexts(temporary, description, tokenizer, options.dtype));
  BDH_RETURN_IF_ERROR(SyncDirectory(temporary));
  BDH_RETURN_IF_ERROR(MoveInto(temporary, target.string()));
  std::move(remove).Cancel();
  return SyncDirectory(parent.string());
}

}  // namespace bdh::pretrained
