#include "split_scanners.h"

#include <array>

#include "unicode.h"

namespace bdh::tokenizer {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt2OtherSpelling =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

enum Class : uint8_t { kOther, kLetter, kNumber, kSpace };

struct AsciiClasses {
  std::array<uint8_t, 128> of{};
  constexpr AsciiClasses() {
    for (int c = 0; c < 128; ++c) {
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      const bool space = c == ' ' || (c >= 9 && c <= 13);
      of[static_cast<size_t>(c)] = letter                 ? kLetter
                                   : c >= '0' && c <= '9' ? kNumber
                                   : space                ? kSpace
                                                          : kOther;
    }
  }
};
constexpr AsciiClasses kAscii;

struct Scan {
  std::string_view text;
  const CharacterClasses& classes = CharacterClasses::Get();

  // The class of the character at `at`, and where it ends.
  Class At(size_t at, size_t& end) const {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x80) {
      end = at + 1;
      return static_cast<Class>(kAscii.of[byte]);
    }
    end = at;
    const uint16_t flags = classes.Of(NextUnit(text, end));
    return (flags & kIsLetter) != 0       ? kLetter
           : (flags & kIsNumber) != 0     ? kNumber
           : (flags & kIsRegexSpace) != 0 ? kSpace
                                          : kOther;
  }

  // Behind the run of `wanted` that begins at `at`.
  size_t Run(size_t at, Class wanted) const {
    size_t end = at;
    while (at < text.size() && At(at, end) == wanted) at = end;
    return at;
  }

  bool IsBreak(size_t at) const { return text[at] == '\r' || text[at] == '\n'; }

  // Of 's 't 're 've 'm 'll 'd at the apostrophe `at`; 0: none.
  size_t Contraction(size_t at, bool any_case) const {
    const auto letter = [&](size_t i) -> char {
      if (i >= text.size()) return '\0';
      const char c = text[i];
      return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
    };
    const char first = letter(at + 1), second = letter(at + 2);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
    if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
        (first == 'l' && second == 'l')) {
      return 3;
    }
    // The long s is an s to whom case does not matter.
    return any_case && text.substr(at + 1, 2) == "\xC5\xBF" ? 3 : 0;
  }

  // A run of whitespace at `at`: what \s+(?!\S)|\s+ takes of it.
  size_t Spaces(size_t at) const {
    const size_t end = Run(at, kSpace);
    if (end == text.size()) return end;
    const size_t last = PreviousUnit(text, end);
    return last > at ? last : end;
  }

  size_t Gpt2(size_t at) const {
    if (text[at] == '\'') {
      if (const size_t length = Contraction(at, false); length != 0) return at + length;
    }
    size_t next = at;
    Class kind = At(at, next);
    if (text[at] == ' ' && next < text.size()) {
      size_t end = next;
      if (const Class second = At(next, end); second != kSpace) {
        kind = second;
        next = end;
      }
    }
    return kind == kSpace ? Spaces(at) : Run(next, kind);
  }

  size_t Llama3(size_t at, int digits) const {
    if (text[at] == '\'') {
      if (const size_t length = Contraction(at, true); length != 0) return at + length;
    }
    size_t next = at;
    const Class kind = At(at, next);
    if (kind == kLetter) return Run(next, kLetter);
    if (kind == kNumber) {
      size_t end = next;
      for (int i = 1; i < digits && next < text.size() && At(next, end) == kNumber; ++i) next = end;
      return next;
    }
    if (next < text.size()) {
      size_t end = next;
      const Class second = At(next, end);
      if (second == kLetter && !IsBreak(at)) return Run(end, kLetter);
      if (text[at] == ' ' && second == kOther) return Breaks(Run(end, kOther));
    }
    if (kind == kOther) return Breaks(Run(next, kOther));
    // \s*[\r\n]+ reaches behind the last line break of the run.
    const size_t run_end = Run(next, kSpace);
    for (size_t i = run_end; i > at; --i) {
      if (IsBreak(i - 1)) return i;
    }
    return Spaces(at);
  }

  size_t Breaks(size_t at) const {
    while (at < text.size() && IsBreak(at)) ++at;
    return at;
  }
};

}  // namespace

std::optional<SplitScanner> ScannerFor(std::string_view pattern) {
  if (pattern == kGpt2Pattern || pattern == kGpt2OtherSpelling) return SplitScanner::kGpt2;
  if (pattern == kLlama3Pattern) return SplitScanner::kLlama3;
  if (pattern == kQwen2Pattern) return SplitScanner::kQwen2;
  return std::nullopt;
}

std::string_view PatternOf(SplitScanner scanner) {
  switch (scanner) {
    case SplitScanner::kLlama3:
      return kLlama3Pattern;
    case SplitScanner::kQwen2:
      return kQwen2Pattern;
    case SplitScanner::kGpt2:
      break;
  }
  return kGpt2Pattern;
}

size_t PieceEnd(SplitScanner scanner, std::string_view text, size_t at) {
  const Scan scan{text};
  switch (scanner) {
    case SplitScanner::kLlama3:
      return scan.Llama3(at, 3);
    case SplitScanner::kQwen2:
      return scan.Llama3(at, 1);
    case SplitScanner::kGpt2:
      break;
  }
  return scan.Gpt2(at);
}

}  // namespace bdh::tokenizer
