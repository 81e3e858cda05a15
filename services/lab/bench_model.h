// The model a benchmark runs: a trained one if there is, else random weights whose neurons fire as often as
// is asked for.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/engine/bdh_model.h"
#include "services/lab/golden_file.h"

namespace bdh::lab {

struct BenchModel {
  spec::ModelConfig config;
  FloatsByName weights;  // By the reference's names.

  // Borrows from this.
  std::vector<engine::NamedTensor> Tensors() const;
};

// Random weights of which about `density` of all activations relu(x E) is not zero: a random model has half
// of them, a trained one 0.11 to 0.27. Everything else is as the reference draws it, std 0.02.
absl::StatusOr<BenchModel> RandomModel(const spec::ModelConfig& config, double density);

// The weights of a safetensors file, under the reference's names or with weight. before them, and the config
// in its metadata.
absl::StatusOr<BenchModel> ModelOfFile(const std::string& path);

}  // namespace bdh::lab
