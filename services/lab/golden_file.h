// A golden file: the weights of a small model and the numbers the reference computed with them. Read whole
// and checked whole, so that the checks that follow only compute.
//
// The safetensors header's metadata holds `config`, a model config as JSON, and for training `lr`,
// `weight_decay`, `betas` ("0.9,0.999"), `eps` and `steps`. The tensors, all but the weights optional:
//   weight.*                        the weights, by the reference's names; weight.attn.freqs if not the usual
//   one idx, targets [B, T]             tokens, and the tokens that follow them logits [B, T, V], loss [1] of
//   idx against targets grad.*                          gradients of that loss greedy [1, n] a beginning of
//   idx[0], continued with the likeliest token each time train.batches [S, B, T + 1]     training batches,
//   inputs and targets in one train.losses [S], trained.*     the loss before each of S AdamW steps, and the
//   weights after the last
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/spec/model_config.h"

namespace bdh::lab {

template <class T>
struct Array {
  std::vector<int64_t> shape;
  std::vector<T> values;
};
using FloatsByName = std::map<std::string, Array<float>>;

struct TrainingRun {
  double learning_rate = 0, weight_decay = 0, beta1 = 0, beta2 = 0, eps = 0;
  Array<int64_t> batches;
  std::vector<float> losses;
  FloatsByName trained;  // Empty, or all weights.
};

struct GoldenFile {
  spec::ModelConfig config;
  FloatsByName weights;
  std::vector<float> frequencies;
  Array<int64_t> tokens;  // The checks up to `gradients` need it, and it is there if one of them is.
  std::optional<Array<int64_t>> targets;  // There if `loss` or `gradients` are.
  std::optional<std::vector<float>> logits;
  std::optional<float> loss;
  FloatsByName gradients;
  std::vector<int64_t> greedy;
  size_t prompt_length = 0;  // How much of `greedy` was given.
  std::optional<TrainingRun> training;
  std::vector<std::string> unchecked;  // Names of other tensors in the file.
};

// InvalidArgumentError when the file is no golden file, contradicts itself or holds nothing to check.
absl::StatusOr<GoldenFile> ReadGoldenFile(const std::string& path);

}  // namespace bdh::lab
