// Elements of tensors between the types that weights are stored in and float32.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::pretrained {

// Whether weights may be of this type: F32, F16, BF16 or F64.
bool IsWeightType(std::string_view dtype);

// F16 and BF16 exactly, F64 rounded to the nearest. `bytes` are whole elements of such a type.
std::vector<float> ToFloats(std::string_view bytes, std::string_view dtype);

// Each rounded to the nearest BF16, ties to even; little-endian. The values are finite.
std::string ToBf16(std::span<const float> values);

// InvalidArgumentError names the first element that is NaN or infinite.
absl::Status CheckFinite(std::string_view name, std::span<const float> values);

}  // namespace bdh::pretrained
