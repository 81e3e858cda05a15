// Models as files, in the manner of Hugging Face: a directory with config.json, model.safetensors (or shards
// and their index), tokenizer files, generation_config.json and README.md. Weights carry the names and shapes
// of the reference, the buffer attn.freqs included, so that its load_state_dict takes them as they are.
//
// Loading takes such a directory, or a state dict alone: a .safetensors file, or a .pt file of torch.save.
// Around names it takes the prefixes "_orig_mod.", "module." and "model.", around a state dict the dicts
// "model", "model_state_dict", "state_dict" and "module", and it leaves a stray lm_gate out.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/spec/model_config.h"
#include "bdh/tokenizer/tokenizer.h"

namespace bdh::pretrained {

// Limits of what is read.
inline constexpr uint64_t kMaxJsonBytes = uint64_t{16} << 20;  // Of each JSON file.
inline constexpr size_t kMaxShards = 4096;

// How the weights came to be. What is empty or unset is not known.
struct TrainingRecord {
  std::string checkpoint;  // "runs/first/steps/20"
  std::string dataset, dataset_hash;
  int64_t step = 0, tokens_seen = 0;
  std::optional<double> train_loss = {}, validation_loss = {};
  std::string config_yaml;       // The effective configuration of the run.
  std::string software_version;  // That trained it.
};

struct Weight {
  std::string name;  // The reference's.
  std::vector<int64_t> shape;
  std::span<const float> values;
};

// --- Saving ---

enum class SavedType { kF32, kBf16 };

struct SaveOptions {
  SavedType dtype = SavedType::kF32;  // Of the weights; attn.freqs is always F32.
  // Where the weights are more, they are split into files of at most this (a larger tensor has one alone).
  uint64_t max_shard_bytes = 5'000'000'000;
};

struct Description {
  std::string title;  // For the model card.
  spec::ModelConfig config;
  std::string tokenizer = "byte";
  // Of a tokenizer other than byte, for tokenizer::LoadTokenizer.
  std::vector<tokenizer::TokenizerFile> tokenizer_files = {};
  TrainingRecord record;
};

// Makes `folder`, whole or not at all. `weights` are all of spec::Weights and, if they are not the usual
// ones, attn.freqs (shape [N] or [1, 1, 1, N]). AlreadyExistsError: the folder is there and not empty.
// InvalidArgumentError names a tensor that is missing, of another shape or not finite, or the tokenizer.
absl::Status SavePretrained(const std::string& folder, const Description& description,
                            std::span<const Weight> weights, const SaveOptions& options = {});

// --- Loading ---

struct LoadOptions {
  // How often the weights are passed: no shape shows it, so it is needed where no config says it.
  std::optional<int> n_layer = {};
};

// What a model's file says of a weight.
struct WeightInfo {
  std::string name;      // The reference's.
  std::string found_as;  // Its name in the file.
  std::string dtype;     // "F32", "F16", "BF16" or "F64".
  std::vector<int64_t> shape;
  int64_t size_bytes = 0;
};

class TensorSource;

// An open model; its files must not change while it is. Movable; may be read from any thread.
class PretrainedModel {
 public:
  PretrainedModel(PretrainedModel&&) noexcept;
  ~PretrainedModel();

  const spec::ModelConfig& config() const { return description_.config; }
  const std::string& tokenizer() const { return description_.tokenizer; }
  // Of a tokenizer other than byte; LoadTokenizer takes them.
  const std::vector<tokenizer::TokenizerFile>& tokenizer_files() const {
    return description_.tokenizer_files;
  }
  const TrainingRecord& record() const { return description_.record; }
  // All of spec::Weights in their order and, if it is there, attn.freqs.
  const std::vector<WeightInfo>& weights() const { return weights_; }
  // Sentences on what a person should know: what was left out, what was assumed.
  const std::vector<std::string>& notes() const { return notes_; }

  // The elements of a weight as float32. InvalidArgumentError names it where one is not finite.
  absl::StatusOr<std::vector<float>> Floats(const WeightInfo& weight) const;
  // The bytes as they are in the file.
  absl::StatusOr<std::string> Bytes(const WeightInfo& weight) const;

 private:
  friend class Loader;
  PretrainedModel();

  Description description_;
  std::vector<WeightInfo> weights_;
  std::vector<std::string> notes_;
  std::unique_ptr<TensorSource> source_;
  // Where the file's frequencies are coarser than float32 but the usual ones, these stand for them.
  std::vector<float> usual_frequencies_;
};

// Opens a directory, a .safetensors file or a .pt file; which, its content decides. Reads no weights yet.
// InvalidArgumentError says what is wrong and with which tensor or file: a header that is cut short or lies,
// tensors that are missing, unknown, given twice, of another shape or type, sizes that contradict
// config.json, an n_layer that nothing says.
absl::StatusOr<PretrainedModel> LoadPretrained(const std::string& path, const LoadOptions& options = {});

}  // namespace bdh::pretrained
