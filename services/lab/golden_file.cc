#include "services/lab/golden_file.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/spec/model_config_json.h"
#include "bdh/tensorfile/safetensors.h"

namespace bdh::lab {
namespace {

using tensorfile::SafetensorsFile;
using Shape = std::vector<int64_t>;

constexpr int64_t kAny = -1;  // In a wanted shape: one or more.

bool Fits(const Shape& shape, const Shape& wanted) {
  return std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end(),
                    [](int64_t size, int64_t want) { return want == kAny ? size > 0 : size == want; });
}

std::string ShapeText(const Shape& shape) {
  return absl::StrFormat("[%s]", absl::StrJoin(shape, ", ", [](std::string* out, int64_t size) {
                           *out += size == kAny ? "any" : std::to_string(size);
                         }));
}

// Reads one file piece by piece, and remembers which tensors were asked for.
class Reader {
 public:
  explicit Reader(const SafetensorsFile& file) : file_(file) {}

  absl::StatusOr<GoldenFile> Read();

 private:
  bool Has(const std::string& name) const { return file_.Find(name) != nullptr; }
  absl::Status CheckShape(const std::string& name, const Shape& wanted);
  absl::StatusOr<Array<float>> Floats(const std::string& name, const Shape& wanted);
  absl::StatusOr<Array<int64_t>> Tokens(const std::string& name, const Shape& wanted);
  absl::StatusOr<double> Setting(const std::string& key) const;
  absl::StatusOr<FloatsByName> WeightLike(const std::string& prefix);

  absl::Status ReadConfig();
  absl::Status ReadWeights();
  absl::Status ReadEvaluation();
  absl::Status ReadGreedy();
  absl::Status ReadTraining();
  absl::Status ReadAdamW(TrainingRun& run) const;

  const SafetensorsFile& file_;
  std::set<std::string> read_;
  GoldenFile golden_;
};

absl::Status Reader::CheckShape(const std::string& name, const Shape& wanted) {
  read_.insert(name);
  const tensorfile::TensorInfo* tensor = file_.Find(name);
  if (tensor == nullptr) return absl::InvalidArgumentError(absl::StrFormat("tensor %s is missing", name));
  if (Fits(tensor->shape, wanted)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("tensor %s has shape %s; want %s", name, ShapeText(tensor->shape), ShapeText(wanted)));
}

absl::StatusOr<Array<float>> Reader::Floats(const std::string& name, const Shape& wanted) {
  BDH_RETURN_IF_ERROR(CheckShape(name, wanted));
  BDH_ASSIGN_OR_RETURN(std::vector<float> values, file_.Floats(name));
  return Array<float>{file_.Find(name)->shape, std::move(values)};
}

absl::StatusOr<Array<int64_t>> Reader::Tokens(const std::string& name, const Shape& wanted) {
  BDH_RETURN_IF_ERROR(CheckShape(name, wanted));
  BDH_ASSIGN_OR_RETURN(std::vector<int64_t> values, file_.Integers(name));
  for (int64_t token : values) {
    if (token >= 0 && token < golden_.config.vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor %s holds token %d; want 0 to %d (vocab_size - 1)", name, token,
                        golden_.config.vocab_size - 1));
  }
  return Array<int64_t>{file_.Find(name)->shape, std::move(values)};
}

absl::StatusOr<double> Reader::Setting(const std::string& key) const {
  const auto found = file_.metadata().find(key);
  double value = 0;
  if (found != file_.metadata().end() && absl::SimpleAtod(found->second, &value)) return value;
  return absl::InvalidArgumentError(
      absl::StrFormat("metadata %s is missing or not a number; train.batches needs it", key));
}

absl::StatusOr<FloatsByName> Reader::WeightLike(const std::string& prefix) {
  FloatsByName result;
  for (const spec::WeightSpec& weight : spec::Weights(golden_.config)) {
    BDH_ASSIGN_OR_RETURN(result[weight.name], Floats(prefix + weight.name, weight.shape));
  }
  return result;
}

absl::Status Reader::ReadConfig() {
  const auto config = file_.metadata().find("config");
  if (config == file_.metadata().end()) {
    return absl::InvalidArgumentError(
        "metadata has no config, the JSON of the model's sizes: not a golden file");
  }
  BDH_ASSIGN_OR_RETURN(golden_.config, spec::ModelConfigFromJson(config->second));
  double dropout = golden_.config.dropout;
  if (const auto found = file_.metadata().find("dropout"); found != file_.metadata().end()) {
    if (!absl::SimpleAtod(found->second, &dropout))
      return absl::InvalidArgumentError("metadata dropout is no number");
  }
  if (dropout == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "dropout is %g; its random choices cannot be repeated, so a golden file has 0", dropout));
}

absl::Status Reader::ReadWeights() {
  BDH_ASSIGN_OR_RETURN(golden_.weights, WeightLike("weight."));
  const int64_t per_head = golden_.config.neurons_per_head();
  golden_.frequencies = spec::RopeFrequencies(per_head);
  const std::string stored = std::string("weight.") + spec::kFrequenciesName;
  if (!Has(stored)) return absl::OkStatus();
  BDH_ASSIGN_OR_RETURN(Array<float> frequencies, Floats(stored, {per_head}));
  golden_.frequencies = std::move(frequencies.values);
  return absl::OkStatus();
}

absl::Status Reader::ReadEvaluation() {
  const bool gradients = std::any_of(file_.tensors().begin(), file_.tensors().end(), [](const auto& tensor) {
    return absl::StartsWith(tensor.name, "grad.");
  });
  if (!Has("logits") && !Has("loss") && !gradients) return absl::OkStatus();
  BDH_ASSIGN_OR_RETURN(golden_.tokens, Tokens("idx", {kAny, kAny}));
  const Shape& shape = golden_.tokens.shape;
  if (Has("logits")) {
    BDH_ASSIGN_OR_RETURN(Array<float> logits,
                         Floats("logits", {shape[0], shape[1], golden_.config.vocab_size}));
    golden_.logits = std::move(logits.values);
  }
  if (!Has("loss") && !gradients) return absl::OkStatus();
  BDH_ASSIGN_OR_RETURN(golden_.targets, Tokens("targets", shape));
  if (Has("loss")) {
    BDH_ASSIGN_OR_RETURN(const Array<float> loss, Floats("loss", {1}));
    golden_.loss = loss.values[0];
  }
  if (gradients) {
    BDH_ASSIGN_OR_RETURN(golden_.gradients, WeightLike("grad."));
  }
  return absl::OkStatus();
}

// The file does not say where the prompt ends. What idx[0] and greedy share from the start was either given
// or, by chance, also the likeliest token; to take it all as given leaves the rest of the check what it is.
absl::Status Reader::ReadGreedy() {
  if (!Has("greedy")) return absl::OkStatus();
  BDH_ASSIGN_OR_RETURN(Array<int64_t> greedy, Tokens("greedy", {1, kAny}));
  BDH_ASSIGN_OR_RETURN(const Array<int64_t> tokens, Tokens("idx", {kAny, kAny}));
  golden_.greedy = std::move(greedy.values);
  const auto row_end = tokens.values.begin() + tokens.shape[1];
  const auto parting =
      std::mismatch(golden_.greedy.begin(), golden_.greedy.end(), tokens.values.begin(), row_end);
  golden_.prompt_length = parting.first - golden_.greedy.begin();
  if (golden_.prompt_length > 0 && golden_.prompt_length < golden_.greedy.size()) return absl::OkStatus();
  return absl::InvalidArgumentError("tensor greedy does not continue a beginning of idx[0]");
}

absl::Status Reader::ReadAdamW(TrainingRun& run) const {
  BDH_ASSIGN_OR_RETURN(run.learning_rate, Setting("lr"));
  BDH_ASSIGN_OR_RETURN(run.weight_decay, Setting("weight_decay"));
  BDH_ASSIGN_OR_RETURN(run.eps, Setting("eps"));
  const auto found = file_.metadata().find("betas");
  const std::string text = found == file_.metadata().end() ? "" : found->second;
  const std::vector<std::string> betas = absl::StrSplit(text, ',');
  if (betas.size() == 2 && absl::SimpleAtod(betas[0], &run.beta1) && absl::SimpleAtod(betas[1], &run.beta2)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("metadata betas is missing or not two numbers such as 0.9,0.999");
}

absl::Status Reader::ReadTraining() {
  if (!Has("train.batches")) return absl::OkStatus();
  TrainingRun run;
  BDH_RETURN_IF_ERROR(ReadAdamW(run));
  BDH_ASSIGN_OR_RETURN(run.batches, Tokens("train.batches", {kAny, kAny, kAny}));
  if (run.batches.shape[2] < 2)
    return absl::InvalidArgumentError("tensor train.batches has rows of 1 token; want 2");
  BDH_ASSIGN_OR_RETURN(const double steps, Setting("steps"));
  if (steps != static_cast<double>(run.batches.shape[0])) {
    return absl::InvalidArgumentError(
        absl::StrFormat("metadata steps is %g, but train.batches holds %d", steps, run.batches.shape[0]));
  }
  BDH_ASSIGN_OR_RETURN(Array<float> losses, Floats("train.losses", {run.batches.shape[0]}));
  run.losses = std::move(losses.values);
  if (Has("trained.encoder")) {
    BDH_ASSIGN_OR_RETURN(run.trained, WeightLike("trained."));
  }
  golden_.training = std::move(run);
  return absl::OkStatus();
}

absl::StatusOr<GoldenFile> Reader::Read() {
  BDH_RETURN_IF_ERROR(ReadConfig());
  BDH_RETURN_IF_ERROR(ReadWeights());
  BDH_RETURN_IF_ERROR(ReadEvaluation());
  BDH_RETURN_IF_ERROR(ReadGreedy());
  BDH_RETURN_IF_ERROR(ReadTraining());
  const bool evaluation = golden_.logits || golden_.loss || !golden_.gradients.empty();
  if (!evaluation && golden_.greedy.empty() && !golden_.training) {
    return absl::InvalidArgumentError(
        "holds nothing to check: no logits, loss, grad.*, greedy or train.batches");
  }
  for (const auto& tensor : file_.tensors()) {
    if (!read_.contains(tensor.name)) golden_.unchecked.push_back(tensor.name);
  }
  return std::move(golden_);
}

}  // namespace

absl::StatusOr<GoldenFile> ReadGoldenFile(const std::string& path) {
  BDH_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  auto golden = Reader(file).Read();
  if (!golden.ok()) return Annotate(golden.status(), path);
  return golden;
}

}  // namespace bdh::lab
