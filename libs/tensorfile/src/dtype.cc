#include <utility>

#include "bdh/tensorfile/safetensors.h"

namespace bdh::tensorfile {

int64_t ElementSize(std::string_view dtype) {
  static constexpr std::pair<std::string_view, int64_t> kSizes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},   {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2},
      {"U16", 2},  {"F16", 2}, {"BF16", 2}, {"I32", 4},     {"U32", 4},     {"F32", 4},
      {"C64", 8},  {"F64", 8}, {"I64", 8},  {"U64", 8}};
  for (const auto& [name, size] : kSizes) {
    if (name == dtype) return size;
  }
  return 0;
}

int64_t TensorInfo::element_count() const {
  return static_cast<int64_t>(size_bytes) / ElementSize(dtype);
}

}  // namespace bdh::tensorfile
