#include "cleaner.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/utf8.h>

#include <cstring>
#include <utility>

#include "bdh/base/log.h"

namespace bdh::documents {
namespace {

constexpr std::string_view kBom = "\xef\xbb\xbf";
constexpr std::string_view kReplacement = "\xef\xbf\xbd";
// Composed at once. Marks without end on one letter, for which ICU takes quadratic time, are no text:
// composing begins anew in them.
constexpr size_t kComposedBytes = size_t{4} << 10;

bool IsContinuation(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

// What comes behind `lead`, 0 to 3, or -1 if no character begins with it; and the range of the second byte.
struct Shape {
  int more;
  unsigned char low = 0x80, high = 0xbf;
};
Shape ShapeOf(unsigned char lead) {
  if (lead < 0x80) return {0};
  if (lead < 0xc2) return {-1};
  if (lead < 0xe0) return {1};
  if (lead == 0xe0) return {2, 0xa0, 0xbf};
  if (lead == 0xed) return {2, 0x80, 0x9f};
  if (lead < 0xf0) return {2};
  if (lead == 0xf0) return {3, 0x90, 0xbf};
  if (lead < 0xf4) return {3};
  if (lead == 0xf4) return {3, 0x80, 0x8f};
  return {-1};
}

// The maximal part of a character at the beginning of `text`: its length, and whether it is whole.
std::pair<size_t, bool> CharacterAt(std::string_view text) {
  const Shape shape = ShapeOf(static_cast<unsigned char>(text[0]));
  if (shape.more < 0) return {1, false};
  size_t size = 1;
  for (; size <= static_cast<size_t>(shape.more) && size < text.size(); ++size) {
    const auto byte = static_cast<unsigned char>(text[size]);
    const bool fits = size == 1 ? byte >= shape.low && byte <= shape.high : IsContinuation(text[size]);
    if (!fits) return {size, false};
  }
  return {size, size == static_cast<size_t>(shape.more) + 1};
}

// The bytes of a character below U+D000 and not in the rare ranges; 0: look closer.
size_t UsualCharacter(const char* text, size_t size) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead < 0xe0) return size >= 2 && IsContinuation(text[1]) ? 2 : 0;
  if (lead < 0xe1 || lead > 0xec) return 0;
  return size >= 3 && IsContinuation(text[1]) && IsContinuation(text[2]) ? 3 : 0;
}

// How much of `text` is whole characters.
size_t ValidPrefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (text.size() - at >= 8) {
      uint64_t word;
      std::memcpy(&word, text.data() + at, sizeof word);
      if ((word & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    if (const size_t size = UsualCharacter(text.data() + at, text.size() - at)) {
      at += size;
      continue;
    }
    const auto [size, whole] = CharacterAt(text.substr(at));
    if (!whole) return at;
    at += size;
  }
  return at;
}

const icu::Normalizer2& Nfc() {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* const nfc = icu::Normalizer2::getNFCInstance(error);
  BDH_CHECK(U_SUCCESS(error)) << "ICU has no NFC: " << u_errorName(error);
  return *nfc;
}

// How much of `text` what follows it cannot change: up to the last character that nothing before it composes
// with.
size_t ComposableBytes(std::string_view text) {
  size_t at = text.size();
  while (at > 0) {
    --at;
    while (at > 0 && IsContinuation(text[at])) --at;
    int32_t next = 0;
    UChar32 c = 0;
    U8_NEXT(text.data() + at, next, static_cast<int32_t>(text.size() - at), c);
    if (c < 0 || Nfc().hasBoundaryBefore(c)) return at;
  }
  return 0;
}

// Bytes that are no UTF-8 would not survive ICU: what is between them is composed alone.
void AppendComposed(std::string_view text, std::string& out) {
  icu::StringByteSink<std::string> sink(&out);
  UErrorCode error = U_ZERO_ERROR;
  while (!text.empty()) {
    const size_t valid = ValidPrefix(text);
    Nfc().normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(valid)), sink, nullptr, error);
    BDH_CHECK(U_SUCCESS(error)) << "ICU: " << u_errorName(error);
    text.remove_prefix(valid);
    if (text.empty()) return;
    const size_t bad = CharacterAt(text).first;
    out.append(text.substr(0, bad));
    text.remove_prefix(bad);
  }
}

}  // namespace

size_t CutCharacterBytes(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const char c = text[text.size() - back];
    if (IsContinuation(c)) continue;
    const auto [size, whole] = CharacterAt(text.substr(text.size() - back));
    return !whole && size == back && ShapeOf(static_cast<unsigned char>(c)).more >= 0 ? back : 0;
  }
  return 0;
}

Cleaner::Cleaner(const Options& options)
    : repair_(options.utf8 == Utf8Policy::kRepair),
      strip_bom_(options.strip_bom),
      unix_line_ends_(options.unix_line_ends),
      nfc_(options.nfc) {}

void Cleaner::Begin() {
  broken_ = after_cr_ = false;
  at_start_ = true;
  held_.clear();
  uncomposed_.clear();
}

void Cleaner::Append(std::string_view piece, std::string& out) {
  // A character that was cut goes through with what completes it.
  while (!held_.empty() && !piece.empty()) {
    held_ += piece[0];
    piece.remove_prefix(1);
    if (CutCharacterBytes(held_) == held_.size()) continue;
    CheckUtf8(std::exchange(held_, ""), false, out);
  }
  CheckUtf8(piece, false, out);
}

void Cleaner::End(std::string& out) {
  CheckUtf8(std::exchange(held_, ""), true, out);
  if (nfc_) Compose("", true, out);
}

void Cleaner::CheckUtf8(std::string_view text, bool at_end, std::string& out) {
  while (!text.empty()) {
    const size_t valid = ValidPrefix(text);
    if (valid > 0) Emit(text.substr(0, valid), out);
    text.remove_prefix(valid);
    if (text.empty()) return;
    if (!at_end && CutCharacterBytes(text) == text.size()) {
      held_ = text;
      return;
    }
    const size_t bad = CharacterAt(text).first;
    broken_ = true;
    Emit(repair_ ? kReplacement : text.substr(0, bad), out);
    text.remove_prefix(bad);
  }
}

void Cleaner::Emit(std::string_view text, std::string& out) {
  if (std::exchange(at_start_, false) && strip_bom_ && text.substr(0, kBom.size()) == kBom) {
    text.remove_prefix(kBom.size());
  }
  if (unix_line_ends_) {
    if (std::exchange(after_cr_, false) && !text.empty() && text[0] == '\n') text.remove_prefix(1);
    if (text.find('\r') != std::string_view::npos) {
      after_cr_ = text.back() == '\r';
      scratch_.clear();
      for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\r') {
          scratch_ += text[i];
        } else {
          scratch_ += '\n';
          if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
        }
      }
      text = scratch_;
    }
  }
  if (nfc_) {
    Compose(text, false, out);
  } else {
    out.append(text);
  }
}

void Cleaner::Compose(std::string_view text, bool at_end, std::string& out) {
  uncomposed_.append(text);
  size_t from = 0;
  while (from < uncomposed_.size()) {
    std::string_view slice = std::string_view(uncomposed_).substr(from, kComposedBytes);
    const bool last = from + slice.size() == uncomposed_.size();
    const bool full = slice.size() == kComposedBytes;
    if (!last) slice.remove_suffix(CutCharacterBytes(slice));
    size_t ready = last && at_end ? slice.size() : ComposableBytes(slice);
    if (ready == 0 && full) ready = slice.size();
    if (ready == 0) break;
    AppendComposed(slice.substr(0, ready), out);
    from += ready;
  }
  uncomposed_.erase(0, from);
}

}  // namespace bdh::documents
