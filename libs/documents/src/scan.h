// Finds the next byte that matters, eight at a time.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace bdh::documents {

// Sets the high bit of bytes of `word` that are zero; above the first of them it may set more.
constexpr uint64_t ZeroBytes(uint64_t word) {
  return (word - 0x0101010101010101u) & ~word & 0x8080808080808080u;
}
constexpr uint64_t EqualBytes(uint64_t word, char byte) {
  return ZeroBytes(word ^ (0x0101010101010101u * static_cast<unsigned char>(byte)));
}

// The first of [begin, end) that is one of `bytes`, else end.
template <char... bytes>
const char* FindAny(const char* begin, const char* end) {
  static_assert(std::endian::native == std::endian::little);
  for (; end - begin >= 8; begin += 8) {
    uint64_t word;
    std::memcpy(&word, begin, sizeof word);
    if (const uint64_t hits = (EqualBytes(word, bytes) | ...)) return begin + std::countr_zero(hits) / 8;
  }
  for (; begin < end; ++begin) {
    if (((*begin == bytes) || ...)) return begin;
  }
  return end;
}

}  // namespace bdh::documents
