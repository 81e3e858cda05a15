#include "unicode.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <span>

namespace bdh::tokenizer {
namespace {

using Range = CharacterRange;
struct CategoryRun {
  char32_t first, last;
  uint8_t value;
};
struct Composition {
  char32_t first, second, composed;
};
struct Mapping {
  char32_t from;
  uint16_t offset, length;
};

#include "unicode_tables.inc"

// In the order of kCategories' values.
constexpr std::string_view kCategoryNames[] = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl",
                                               "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc",
                                               "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co"};

constexpr char32_t kHangulBase = 0xAC00, kLeadBase = 0x1100, kVowelBase = 0x1161, kTailBase = 0x11A7;
constexpr char32_t kLeads = 19, kVowels = 21, kTails = 28, kHanguls = kLeads * kVowels * kTails;

std::u32string_view Find(std::span<const Mapping> mappings, const char32_t* text, char32_t unit) {
  const auto found = std::lower_bound(mappings.begin(), mappings.end(), unit,
                                      [](const Mapping& m, char32_t c) { return m.from < c; });
  if (found == mappings.end() || found->from != unit) return {};
  return {text + found->offset, found->length};
}

uint8_t CombiningClass(char32_t unit) {
  if (unit < 0x300) return 0;
  const auto found = std::upper_bound(std::begin(kCombiningClass), std::end(kCombiningClass), unit,
                                      [](char32_t c, const CategoryRun& run) { return c < run.first; });
  if (found == std::begin(kCombiningClass)) return 0;
  const CategoryRun& run = *std::prev(found);
  return unit <= run.last ? run.value : 0;
}

void Decompose(char32_t unit, bool compatible, std::u32string& out) {
  if (unit < 0x80 || unit > 0x10FFFF) {
    out.push_back(unit);
    return;
  }
  if (unit >= kHangulBase && unit < kHangulBase + kHanguls) {
    const char32_t index = unit - kHangulBase;
    out.push_back(kLeadBase + index / (kVowels * kTails));
    out.push_back(kVowelBase + index / kTails % kVowels);
    if (index % kTails != 0) out.push_back(kTailBase + index % kTails);
    return;
  }
  std::u32string_view text;
  if (compatible) text = Find(kCompatible, kCompatibleText, unit);
  if (text.empty()) text = Find(kCanonical, kCanonicalText, unit);
  if (text.empty()) {
    out.push_back(unit);
  } else {
    out.append(text);
  }
}

// 0: they do not make one.
char32_t ComposePair(char32_t first, char32_t second) {
  if (first >= kLeadBase && first < kLeadBase + kLeads && second >= kVowelBase &&
      second < kVowelBase + kVowels) {
    return kHangulBase + ((first - kLeadBase) * kVowels + (second - kVowelBase)) * kTails;
  }
  if (first >= kHangulBase && first < kHangulBase + kHanguls && (first - kHangulBase) % kTails == 0 &&
      second > kTailBase && second < kTailBase + kTails) {
    return first + (second - kTailBase);
  }
  const auto less = [](const Composition& c, const std::pair<char32_t, char32_t>& key) {
    return std::pair(c.first, c.second) < key;
  };
  const auto found =
      std::lower_bound(std::begin(kCompositions), std::end(kCompositions), std::pair(first, second), less);
  return found != std::end(kCompositions) && found->first == first && found->second == second
             ? found->composed
             : 0;
}

}  // namespace

CharacterClasses::CharacterClasses() {
  std::vector<uint16_t> all(0x110000, 0);
  const auto set = [&](std::span<const Range> ranges, uint16_t flag) {
    for (const Range& range : ranges) {
      for (char32_t c = range.first; c <= range.last; ++c) all[c] |= flag;
    }
  };
  set(kLetter, kIsLetter);
  set(kNumber, kIsNumber);
  set(kRegexSpace, kIsRegexSpace);
  set(kRegexWord, kIsRegexWord);
  set(kWhitespace, kIsWhitespace);
  set(kNumeric, kIsNumeric);
  set(kPunctuation, kIsPunctuation);
  set(kWord, kIsWord);
  set(kOther, kIsOther);
  set(kNonspacingMark, kIsNonspacing);
  set(kCombiningMark, kIsCombining);
  set(kExtend, kIsExtend);
  set(kPrepend, kIsPrepend);

  // Most blocks of 256 are like one another: each kind is kept once.
  std::map<std::vector<uint16_t>, uint16_t> known;
  for (size_t block = 0; block < blocks_.size(); ++block) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(block << 8);
    std::vector<uint16_t> flags(begin, begin + 256);
    const auto [entry, is_new] = known.emplace(flags, static_cast<uint16_t>(flags_.size() >> 8));
    if (is_new) flags_.insert(flags_.end(), flags.begin(), flags.end());
    blocks_[block] = entry->second;
  }
}

std::vector<CharacterRange> RangesOf(std::string_view name) {
  if (name == "w") return {std::begin(kRegexWord), std::end(kRegexWord)};
  if (name == "s") return {std::begin(kRegexSpace), std::end(kRegexSpace)};
  if (name == "Han") return {std::begin(kHan), std::end(kHan)};
  if (name == "Hiragana") return {std::begin(kHiragana), std::end(kHiragana)};
  if (name == "Katakana") return {std::begin(kKatakana), std::end(kKatakana)};
  if (name == "Hangul") return {std::begin(kHangul), std::end(kHangul)};
  if (name == "d") name = "Nd";
  std::vector<CharacterRange> ranges;
  for (const CategoryRun& run : kCategories) {
    const std::string_view category = kCategoryNames[run.value];
    if (category != name && category.substr(0, 1) != name) continue;
    if (!ranges.empty() && ranges.back().last + 1 == run.first) {
      ranges.back().last = run.last;
    } else {
      ranges.push_back({run.first, run.last});
    }
  }
  return ranges;
}

std::u32string Decomposed(std::u32string_view units, bool compatible) {
  std::u32string out;
  out.reserve(units.size());
  for (const char32_t unit : units) Decompose(unit, compatible, out);
  // Marks between two characters of class 0 are sorted by class.
  for (size_t i = 0; i < out.size();) {
    if (CombiningClass(out[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < out.size() && CombiningClass(out[end]) != 0) ++end;
    std::stable_sort(out.begin() + static_cast<std::ptrdiff_t>(i),
                     out.begin() + static_cast<std::ptrdiff_t>(end),
                     [](char32_t a, char32_t b) { return CombiningClass(a) < CombiningClass(b); });
    i = end;
  }
  return out;
}

std::u32string Composed(std::u32string_view decomposed) {
  std::u32string out;
  out.reserve(decomposed.size());
  size_t starter = std::u32string::npos;
  int last_class = 0;  // Of what stands between the starter and here.
  for (const char32_t unit : decomposed) {
    const int this_class = CombiningClass(unit);
    if (starter != std::u32string::npos) {
      const bool adjacent = starter + 1 == out.size();
      if (adjacent || (last_class != 0 && last_class < this_class)) {
        if (const char32_t composed = ComposePair(out[starter], unit); composed != 0) {
          out[starter] = composed;
          continue;
        }
      }
    }
    if (this_class == 0) starter = out.size();
    last_class = this_class;
    out.push_back(unit);
  }
  return out;
}

std::u32string Lowercased(std::u32string_view units) {
  std::u32string out;
  out.reserve(units.size());
  for (const char32_t unit : units) {
    if (unit < 0x80) {
      out.push_back(unit >= 'A' && unit <= 'Z' ? unit + 32 : unit);
    } else if (const auto text = Find(kLower, kLowerText, unit); !text.empty()) {
      out.append(text);
    } else {
      out.push_back(unit);
    }
  }
  return out;
}

}  // namespace bdh::tokenizer
