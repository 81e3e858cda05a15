#pragma once

#include <cstdint>
#include <string_view>

namespace bdh::tensorfile {

// The number that `bytes`, at most eight, hold lowest first.
inline uint64_t LittleEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

}  // namespace bdh::tensorfile
