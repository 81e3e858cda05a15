// How kernels see weights: a view that says what the numbers are and how they lie. Never a bare float*, so
// that another type (int8 with its scales) or layout comes without a change in who calls.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bdh/base/log.h"

namespace bdh::kernels {

enum class DType { kF32, kBf16 };

inline constexpr int64_t ElementBytes(DType dtype) {
  return dtype == DType::kF32 ? 4 : 2;
}

// What a vector unit may work on at once, whatever machine it is: sums of many numbers go to 16 lanes.
// Widths are padded to it with zeros, so that no kernel has a remainder.
inline constexpr int64_t kLanes = 16;
// Columns of a dense product that lie together.
inline constexpr int64_t kPanel = 64;

inline constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

enum class Layout {
  kPanels,  // Panels of 64 columns, row after row: y = sum over rows of x[row] * row. For dense products.
  kRows,    // Row after row: only the rows asked for are touched.
};

// Borrows its numbers: they outlive it and do not change while kernels run. Cheap to copy.
struct WeightMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Layout layout = Layout::kRows;
  int64_t rows = 0;
  int64_t columns = 0;  // Padded: to kLanes (kRows) or kPanel (kPanels).

  // Rows [begin, begin + count) of kRows.
  WeightMatrix Rows(int64_t begin, int64_t count) const {
    BDH_CHECK(layout == Layout::kRows && begin >= 0 && count >= 0 && begin + count <= rows);
    return {At(begin * columns), dtype, layout, count, columns};
  }
  // Columns [begin, begin + count) of kPanels; both are multiples of kPanel.
  WeightMatrix Columns(int64_t begin, int64_t count) const {
    BDH_CHECK(layout == Layout::kPanels && begin % kPanel == 0 && count % kPanel == 0);
    BDH_CHECK(begin >= 0 && count >= 0 && begin + count <= columns);
    return {At(begin * rows), dtype, layout, rows, count};
  }

 private:
  const void* At(int64_t element) const {
    return static_cast<const char*>(data) + element * ElementBytes(dtype);
  }
};

// The bytes a matrix of this shape takes once it is padded and stored.
int64_t PackedBytes(DType dtype, Layout layout, int64_t rows, int64_t columns);

// Writes `values` [rows, columns], whose element (r, c) is values[r * row_stride + c * column_stride], padded
// with zeros into `out`, which has PackedBytes. bf16 rounds to nearest, ties to even.
WeightMatrix Pack(const float* values, int64_t rows, int64_t columns, int64_t row_stride,
                  int64_t column_stride, DType dtype, Layout layout, void* out);

// The bf16 number nearest to `value`, ties to even, as its 16 bits; and back.
uint16_t ToBf16(float value);
float FromBf16(uint16_t bits);

}  // namespace bdh::kernels
