#include <algorithm>
#include <bit>
#include <cstring>

#include "bdh/kernels/weight_matrix.h"

namespace bdh::kernels {
namespace {

void Store(DType dtype, float value, int64_t element, void* out) {
  if (dtype == DType::kF32) {
    static_cast<float*>(out)[element] = value;
  } else {
    static_cast<uint16_t*>(out)[element] = ToBf16(value);
  }
}

}  // namespace

uint16_t ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float FromBf16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

int64_t PackedBytes(DType dtype, Layout layout, int64_t rows, int64_t columns) {
  return rows * RoundUp(columns, layout == Layout::kPanels ? kPanel : kLanes) * ElementBytes(dtype);
}

WeightMatrix Pack(const float* values, int64_t rows, int64_t columns, int64_t row_stride,
                  int64_t column_stride, DType dtype, Layout layout, void* out) {
  const bool panels = layout == Layout::kPanels;
  const int64_t padded = RoundUp(columns, panels ? kPanel : kLanes);
  const int64_t panel = panels ? kPanel : padded;
  std::memset(out, 0, PackedBytes(dtype, layout, rows, columns));
  constexpr int64_t kTile = 16;  // Rows at a time, so that both sides stay in the cache.
  for (int64_t begin = 0; begin < rows; begin += kTile) {
    const int64_t end = std::min(begin + kTile, rows);
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t element = c / panel * panel * rows + r * panel + c % panel;
        Store(dtype, values[r * row_stride + c * column_stride], element, out);
      }
    }
  }
  return {out, dtype, layout, rows, padded};
}

}  // namespace bdh::kernels
