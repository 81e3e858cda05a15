// A ModelConfig as JSON text, with the reference's field names: how files and checkpoints carry it.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "bdh/spec/model_config.h"

namespace bdh::spec {

// {"n_layer":6,"n_embd":256,"n_head":4,"mlp_internal_dim_multiplier":128,"vocab_size":256,"dropout":0.1}
std::string ToJson(const ModelConfig& config);

// Reads what ToJson writes and checks it with Validate. Every field is required but `dropout`, which is 0
// when absent: the text may come from a file that is only ever evaluated. InvalidArgumentError names a field
// that is missing, unknown, of the wrong type or out of range.
absl::StatusOr<ModelConfig> ModelConfigFromJson(std::string_view text);

}  // namespace bdh::spec
