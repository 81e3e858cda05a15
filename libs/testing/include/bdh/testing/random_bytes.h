#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace bdh {

// Bytes that no other seed has.
inline std::string RandomBytes(uint64_t seed, size_t size) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

}  // namespace bdh
