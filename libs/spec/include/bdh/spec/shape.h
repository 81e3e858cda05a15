// Shapes of tensors: one number an axis.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bdh::spec {

// "[2, 32, 128]", for messages.
std::string ShapeText(const std::vector<int64_t>& shape);

// The product of all axes; 1 for a scalar. The caller knows that it fits: the shape is one of the model's.
int64_t ElementCount(const std::vector<int64_t>& shape);

}  // namespace bdh::spec
