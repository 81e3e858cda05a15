// What became of every document and byte.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bdh::documents {

enum class Drop {
  kEmpty,     // No text in it.
  kNull,      // A row whose text is null or absent.
  kTooShort,  // min_bytes
  kTooLong,   // max_bytes, or max_document_bytes with drop_too_long.
  kFewWords,  // min_word_share
  kContent,   // must_contain, must_not_contain
  kDuplicate,
  kBrokenUtf8,
};
inline constexpr int kDropReasons = 8;

// "empty", "null", "too short", ...
std::string_view DropName(Drop reason);

struct Count {
  int64_t documents = 0;
  int64_t bytes = 0;  // Of text.
};

// documents in = kept + dropped, always. Bytes in are of text as it stood in the file, decompressed and out
// of its format; kept bytes are what was handed on.
struct Tally {
  int64_t file_bytes = 0;  // As they lie on disk.
  Count in;
  Count kept;
  std::array<Count, kDropReasons> dropped;
  int64_t broken_utf8 = 0;    // Documents with bytes that are no UTF-8, whatever the policy.
  int64_t markup_bytes = 0;   // Left out of markdown and html.
  int64_t other_columns = 0;  // Columns of tables that were not read.

  Count& operator[](Drop reason) { return dropped[static_cast<size_t>(reason)]; }
  const Count& operator[](Drop reason) const { return dropped[static_cast<size_t>(reason)]; }
  Count dropped_total() const;
  void Add(const Tally& other);
};

struct SourceTally {
  std::string name;
  Tally tally;
};

struct Report {
  Tally total;
  // In order of reading, up to kSourcesNamed of them; `unnamed` are those that came later, together.
  std::vector<SourceTally> sources;
  int64_t unnamed_sources = 0;
  Tally unnamed;
  static constexpr size_t kSourcesNamed = 1000;
};

}  // namespace bdh::documents
