// From the tensors of a file to the weights of a model: names, sizes, shapes and types.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/pretrained/pretrained.h"
#include "json_files.h"
#include "tensor_source.h"

namespace bdh::pretrained {

// The tensors by the reference's names, without prefixes and strays; `notes` says what was left out. All that
// is known is their names: two of one name are an InvalidArgumentError, as is a name the reference has not.
absl::StatusOr<std::vector<WeightInfo>> NameWeights(const std::vector<StoredTensor>& stored,
                                                    std::vector<std::string>& notes);

// The model's sizes: from the shapes what they show, the rest from `said` and `n_layer`. InvalidArgumentError
// names a shape that shows nothing, a contradiction, or what nobody says.
absl::StatusOr<spec::ModelConfig> DeriveConfig(const std::vector<WeightInfo>& weights,
                                               const PartialConfig& said, std::optional<int> n_layer);

// Puts `weights` into the order of spec::Weights. InvalidArgumentError names one that is missing, of another
// shape, or of a type that is no weight's.
absl::Status CheckWeights(const spec::ModelConfig& config, std::vector<WeightInfo>& weights);

}  // namespace bdh::pretrained
