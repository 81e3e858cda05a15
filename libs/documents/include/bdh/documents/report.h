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

// Always: in = kept + dropped, in documents; in bytes, in = kept + cleaned + dropped.
struct Tally {
  int64_t file_bytes = 0;  // Read of the files, as they lie on disk.
  // Of what was decompressed, what is not text: separators, markup, names and other fields of rows. Not known
  // of parquet.
  int64_t format_bytes = 0;
  Count in;    // Text as it stood in the file, out of its format.
  Count kept;  // As it was handed on.
  std::array<Count, kDropReasons> dropped;
  // By how much kept texts became shorter on their way: byte order marks, line ends, composed forms. Below 0
  // where repairs made them longer.
  int64_t cleaned_bytes = 0;
  int64_t broken_utf8 = 0;  // Documents with bytes that are no UTF-8, whatever the policy.

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
