// How kernels see weights: a view that says what the numbers are and how they lie. Never a bare float*, so
// that bf16, int8 and other layouts can come without a change in who calls.
#pragma once

#include <cstdint>
#include <span>

#include "bdh/base/log.h"

namespace bdh::kernels {

enum class DType { kF32 };

// Which axis is contiguous in memory.
enum class Layout {
  kRowPerInput,   // rows are inputs: y = sum over rows of x[row] * row. For dense products.
  kRowPerOutput,  // rows are outputs (neurons): only the rows asked for are touched.
};

// Borrows its numbers: they outlive it and do not change while kernels run. Cheap to copy.
struct WeightMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Layout layout = Layout::kRowPerInput;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_stride = 0;  // In elements.

  // Row `row` of an fp32 matrix.
  const float* F32Row(int64_t row) const { return static_cast<const float*>(data) + row * row_stride; }

  // Rows [begin, begin + count).
  WeightMatrix Rows(int64_t begin, int64_t count) const {
    BDH_CHECK(begin >= 0 && count >= 0 && begin + count <= rows);
    WeightMatrix part = *this;
    part.data = F32Row(begin);
    part.rows = count;
    return part;
  }
};

// A view of `values`, whose size is rows * columns.
inline WeightMatrix F32Matrix(std::span<const float> values, Layout layout, int64_t rows, int64_t columns) {
  BDH_CHECK(static_cast<int64_t>(values.size()) == rows * columns);
  return {values.data(), DType::kF32, layout, rows, columns, columns};
}

}  // namespace bdh::kernels
