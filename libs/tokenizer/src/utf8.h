// Characters of texts that need not be UTF-8: a byte that belongs to no character is a unit of its own and is
// written back as it came, so that what does not look at it keeps it.
#pragma once

#include <string>
#include <string_view>

namespace bdh::tokenizer {

inline constexpr char32_t kRawByte = 0x80000000;  // | the byte.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

inline bool IsRawByte(char32_t unit) {
  return (unit & kRawByte) != 0;
}

// How many bytes of `text` at `at` make up one character; 0 where none begins. Overlong forms, surrogates and
// what lies past U+10FFFF are none.
inline size_t CharacterBytes(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const size_t left = text.size() - at;
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4 || left < 2) return 0;
  const unsigned char second_min = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char second_max = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < second_min || byte(1) > second_max) return 0;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (left < length) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

// The unit at `at`, which moves behind it.
inline char32_t NextUnit(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[at + i])); };
  const size_t length = CharacterBytes(text, at);
  char32_t unit = 0;
  switch (length) {
    case 0:
      unit = kRawByte | byte(0);
      break;
    case 1:
      unit = byte(0);
      break;
    case 2:
      unit = (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
      break;
    case 3:
      unit = (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
      break;
    default:
      unit = (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
  at += length == 0 ? 1 : length;
  return unit;
}

// What the first unit of `text` takes; 0: it is empty.
inline size_t FirstCharacterBytes(std::string_view text) {
  size_t at = 0;
  if (!text.empty()) NextUnit(text, at);
  return at;
}

// Where the unit before `at` begins. `at` is not 0 and is a border between units.
size_t PreviousUnit(std::string_view text, size_t at);

void AppendUnit(char32_t unit, std::string& text);
std::u32string ToUnits(std::string_view text);
std::string ToBytes(std::u32string_view units);

// With U+FFFD for each maximal broken part. The same text where nothing is broken.
std::string Repaired(std::string_view text);

}  // namespace bdh::tokenizer
