#pragma once

#include <span>
#include <string>
#include <string_view>

#include "bdh/store/checkpoint.h"

namespace bdh::store {

// Whether values of this type can be averaged: F32, BF16, F16, F64.
bool IsFloat(DType dtype);

// The numbers in `bytes`, whole elements of `dtype` (any but none; bools are 0 and 1), into `out` of as many.
void ToDoubles(DType dtype, std::string_view bytes, std::span<double> out);

// Each rounded once to the nearest `dtype`, a float type, ties to even; appended to `out`.
void AppendFromDoubles(DType dtype, std::span<const double> values, std::string& out);

}  // namespace bdh::store
