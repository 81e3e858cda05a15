#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/pretrained/pretrained.h"
#include "bdh/tensorfile/torch_file.h"
#include "elements.h"
#include "json_files.h"
#include "state_dict.h"
#include "tensor_source.h"

namespace bdh::pretrained {
namespace {

namespace fs = std::filesystem;

// Pipes and devices would be read without end.
bool IsFile(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

std::string Beginning(const fs::path& file) {
  char bytes[8] = {};
  std::ifstream in(file, std::ios::binary);
  in.read(bytes, sizeof(bytes));
  return {bytes, static_cast<size_t>(in.gcount())};
}

// In a directory, the first of these that is there.
constexpr const char* kWeightFiles[] = {"model.safetensors", "model.safetensors.index.json",
                                        "pytorch_model.bin", "model.pt", "model.pth"};

absl::StatusOr<fs::path> WeightFile(const fs::path& folder) {
  for (const char* name : kWeightFiles) {
    if (IsFile(folder / name)) return folder / name;
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: has no weights; want model.safetensors, or model.safetensors.index.json and its shards",
      folder.string()));
}

absl::StatusOr<std::unique_ptr<TensorSource>> OpenSource(const fs::path& file) {
  if (file.extension() == ".json") return OpenShards(file.string());
  if (tensorfile::TorchFile::LooksLikeOne(Beginning(file))) return OpenTorchFile(file.string());
  return OpenSafetensors(file.string());
}

}  // namespace

PretrainedModel::PretrainedModel() = default;
PretrainedModel::PretrainedModel(PretrainedModel&&) noexcept = default;
PretrainedModel::~PretrainedModel() = default;

absl::StatusOr<std::string> PretrainedModel::Bytes(const WeightInfo& weight) const {
  return source_->Bytes(weight.found_as);
}

absl::StatusOr<std::vector<float>> PretrainedModel::Floats(const WeightInfo& weight) const {
  if (weight.name == spec::kFrequenciesName && !usual_frequencies_.empty()) return usual_frequencies_;
  BDH_ASSIGN_OR_RETURN(const std::string bytes, Bytes(weight));
  std::vector<float> values = ToFloats(bytes, weight.dtype);
  BDH_RETURN_IF_ERROR(CheckFinite(weight.found_as, values));
  return values;
}

// Builds one PretrainedModel, step by step.
class Loader {
 public:
  absl::StatusOr<PretrainedModel> Load(const fs::path& path, const LoadOptions& options) {
    fs::path file = path;
    if (!IsFile(path)) {
      BDH_ASSIGN_OR_RETURN(file, WeightFile(path));
    }
    BDH_ASSIGN_OR_RETURN(model_.source_, OpenSource(file));
    BDH_RETURN_IF_ERROR(ReadConfigs(file.parent_path().empty() ? fs::path(".") : file.parent_path()));
    BDH_RETURN_IF_ERROR(Annotate(ReadWeights(options), file.string()));
    return std::move(model_);
  }

 private:
  // config.json and tokenizer files beside the weights, or a config that came with them.
  absl::Status ReadConfigs(const fs::path& folder) {
    const fs::path beside = folder / "config.json";
    Description& description = model_.description_;
    if (IsFile(beside)) {
      BDH_ASSIGN_OR_RETURN(const Json json, ReadJson(beside.string()));
      BDH_ASSIGN_OR_RETURN(said_, ReadPartialConfig(json, beside.string()));
      description.record = ReadRecord(json);
    } else if (const std::string within = model_.source_->Config(); !within.empty()) {
      const Json json = Json::parse(within, /*callback=*/nullptr, /*allow_exceptions=*/false);
      if (!json.is_object()) return absl::InvalidArgumentError("the file's config is not a JSON object");
      BDH_ASSIGN_OR_RETURN(said_, ReadPartialConfig(json, "the file's own config"));
    }
    if (description.record.step == 0) description.record.step = model_.source_->Step();
    bool has_tokenizer = false;
    BDH_RETURN_IF_ERROR(ReadTokenizer(folder.string(), description, has_tokenizer));
    if (!has_tokenizer) {
      model_.notes_.emplace_back("no tokenizer files; taken as a model over bytes");
    }
    return absl::OkStatus();
  }

  absl::Status ReadWeights(const LoadOptions& options) {
    BDH_ASSIGN_OR_RETURN(model_.weights_, NameWeights(model_.source_->List(), model_.notes_));
    BDH_ASSIGN_OR_RETURN(model_.description_.config, DeriveConfig(model_.weights_, said_, options.n_layer));
    BDH_RETURN_IF_ERROR(CheckWeights(model_.config(), model_.weights_));
    const WeightInfo& last = model_.weights_.back();
    if (last.name != spec::kFrequenciesName) {
      model_.notes_.emplace_back("no attn.freqs; the usual frequencies are taken");
      return absl::OkStatus();
    }
    return last.dtype == "F32" || last.dtype == "F64" ? absl::OkStatus() : CheckCoarseFrequencies(last);
  }

  // A phase is a frequency times a position, so frequencies with 8 or 11 bits say nothing after a few dozen
  // tokens. Whoever casts a whole model casts them too; where they were the usual ones, nothing is lost.
  absl::Status CheckCoarseFrequencies(const WeightInfo& stored) {
    BDH_ASSIGN_OR_RETURN(const std::vector<float> coarse, model_.Floats(stored));
    std::vector<float> usual = spec::RopeFrequencies(model_.config().neurons_per_head());
    const float step = stored.dtype == "BF16" ? 0x1p-8f : 0x1p-10f;  // Of the type, half to spare.
    for (size_t i = 0; i < usual.size(); ++i) {
      const float apart = std::abs(coarse[i] - usual[i]);
      if (apart <= step * usual[i] + 0x1p-24f) continue;  // The last is F16's smallest step.
      return absl::InvalidArgumentError(absl::StrFormat(
          "tensor %s is of type %s and not a rounding of the usual frequencies (%g instead of %g "
          "at %d); want F32, which phases need",
          stored.found_as, stored.dtype, coarse[i], usual[i], i));
    }
    model_.usual_frequencies_ = std::move(usual);
    model_.notes_.push_back(
        absl::StrFormat("%s is rounded to %s; the usual frequencies in float32 are taken in its place",
                        stored.found_as, stored.dtype));
    return absl::OkStatus();
  }

  PretrainedModel model_;
  PartialConfig said_;
};

absl::StatusOr<PretrainedModel> LoadPretrained(const std::string& path, const LoadOptions& options) {
  std::error_code error;
  if (!IsFile(path) && !fs::is_directory(path, error)) {
    return absl::NotFoundError(
        absl::StrFormat("%s is not there; want a pretrained directory, a .safetensors or a .pt file", path));
  }
  return Loader().Load(path, options);
}

}  // namespace bdh::pretrained
