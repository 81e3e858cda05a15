// What a character is, pinned to what Hugging Face's tokenizers takes it for (see unicode_tables.inc).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "utf8.h"

namespace bdh::tokenizer {

// Of char32_t units; a raw byte has none.
enum CharacterClass : uint16_t {
  kIsLetter = 1,  // \p{L}, \p{N}, \s and \w of the regular expressions of tokenizer.json.
  kIsNumber = 2,
  kIsRegexSpace = 4,
  kIsRegexWord = 8,
  kIsWhitespace = 16,  // Rust's char::is_whitespace and is_numeric.
  kIsNumeric = 32,
  kIsPunctuation = 64,  // Where BERT splits.
  kIsWord = 128,        // \w of the pre-tokenizer Whitespace and of added tokens.
  kIsOther = 256,       // What BERT cleans away.
  kIsNonspacing = 512,  // Marks, for BertNormalizer and for StripAccents.
  kIsCombining = 1024,
  kIsExtend = 2048,  // Of one grapheme cluster with the character before, or after.
  kIsPrepend = 4096,
};

class CharacterClasses {
 public:
  static const CharacterClasses& Get() {
    static const CharacterClasses classes;
    return classes;
  }
  uint16_t Of(char32_t unit) const {
    return unit < 0x110000 ? flags_[static_cast<size_t>(blocks_[unit >> 8]) << 8 | (unit & 0xFF)] : 0;
  }
  bool Is(char32_t unit, uint16_t classes) const { return (Of(unit) & classes) != 0; }

 private:
  CharacterClasses();
  std::array<uint16_t, 0x1100> blocks_;
  std::vector<uint16_t> flags_;
};

struct CharacterRange {
  char32_t first, last;
};

// The characters of a general category ("Lu", "L"), of one of the scripts that patterns name ("Han"), of "w",
// "d" or "s". Empty: no such class.
std::vector<CharacterRange> RangesOf(std::string_view name);

// Canonical (NFD) or compatible (NFKD) decomposition in canonical order, and composition (NFC, NFKC).
std::u32string Decomposed(std::u32string_view units, bool compatible);
std::u32string Composed(std::u32string_view decomposed);
// Character by character: no rule looks at neighbours.
std::u32string Lowercased(std::u32string_view units);

}  // namespace bdh::tokenizer
