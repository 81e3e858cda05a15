#include "utf8.h"

namespace bdh::tokenizer {

size_t PreviousUnit(std::string_view text, size_t at) {
  for (size_t length = 1; length <= 4 && length <= at; ++length) {
    const auto byte = static_cast<unsigned char>(text[at - length]);
    if ((byte & 0xC0) == 0x80) continue;
    return CharacterBytes(text.substr(0, at), at - length) == length ? at - length : at - 1;
  }
  return at - 1;
}

void AppendUnit(char32_t unit, std::string& text) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (IsRawByte(unit)) {
    put(unit & 0xFF);
  } else if (unit < 0x80) {
    put(unit);
  } else if (unit < 0x800) {
    put(0xC0 | unit >> 6);
    put(0x80 | (unit & 0x3F));
  } else if (unit < 0x10000) {
    put(0xE0 | unit >> 12);
    put(0x80 | (unit >> 6 & 0x3F));
    put(0x80 | (unit & 0x3F));
  } else {
    put(0xF0 | unit >> 18);
    put(0x80 | (unit >> 12 & 0x3F));
    put(0x80 | (unit >> 6 & 0x3F));
    put(0x80 | (unit & 0x3F));
  }
}

std::u32string ToUnits(std::string_view text) {
  std::u32string units;
  units.reserve(text.size());
  for (size_t at = 0; at < text.size();) units.push_back(NextUnit(text, at));
  return units;
}

std::string ToBytes(std::u32string_view units) {
  std::string text;
  text.reserve(units.size());
  for (const char32_t unit : units) AppendUnit(unit, text);
  return text;
}

}  // namespace bdh::tokenizer
