// Replacement follows the Unicode standard's "substitution of maximal subparts" (section 3.9), which is also
// WHATWG's decoder: one U+FFFD for the longest prefix of a well-formed sequence that is then broken off, or
// for one byte that begins none. So our text equals what Python, browsers and Hugging Face make of the bytes.
#include "bdh/base/status_macros.h"
#include "bdh/tokenizer/tokenizer.h"
#include "utf8.h"

namespace bdh::tokenizer {
namespace {

// What a lead byte announces. `length` 0: no character begins so.
struct Sequence {
  int length;
  unsigned char second_min, second_max;
};

Sequence Announced(unsigned char lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};  // Below: overlong.
  if (lead == 0xED) return {3, 0x80, 0x9F};  // Above: surrogates.
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};  // Below: overlong.
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};  // Above: past U+10FFFF.
  return {0, 0, 0};
}

// How many bytes at the front of `bytes` fit `sequence`, at most its length.
size_t Matching(std::string_view bytes, const Sequence& sequence) {
  size_t n = 1;
  while (n < bytes.size() && n < static_cast<size_t>(sequence.length)) {
    const auto byte = static_cast<unsigned char>(bytes[n]);
    const unsigned char min = n == 1 ? sequence.second_min : 0x80;
    const unsigned char max = n == 1 ? sequence.second_max : 0xBF;
    if (byte < min || byte > max) break;
    ++n;
  }
  return n;
}

// Moves what is decided from the front of `pending` into the result: whole characters as they are, broken
// ones as U+FFFD.
std::string TakeDecided(std::string& pending) {
  std::string out;
  std::string_view rest = pending;
  while (!rest.empty()) {
    const Sequence sequence = Announced(static_cast<unsigned char>(rest[0]));
    const size_t matching = Matching(rest, sequence);
    const bool whole = matching == static_cast<size_t>(sequence.length);
    if (!whole && sequence.length > 0 && matching == rest.size()) break;  // More may come.
    out.append(whole ? rest.substr(0, matching) : kReplacementCharacter);
    rest.remove_prefix(matching);
  }
  pending.erase(0, pending.size() - rest.size());
  return out;
}

}  // namespace

absl::StatusOr<std::string> StreamDecoder::Push(int32_t token) {
  BDH_RETURN_IF_ERROR(tokenizer_->DecodeNext(token, state_, pending_));
  return TakeDecided(pending_);
}

std::string StreamDecoder::Flush() {
  // What is held back is always one maximal subpart.
  const bool held = !pending_.empty();
  pending_.clear();
  state_ = {};
  return held ? std::string(kReplacementCharacter) : "";
}

std::string Repaired(std::string_view text) {
  std::string pending(text);
  std::string out = TakeDecided(pending);
  if (!pending.empty()) out.append(kReplacementCharacter);
  return out;
}

}  // namespace bdh::tokenizer
