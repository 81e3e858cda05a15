// How files become documents.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::documents {

enum class Format { kGuess, kText, kJsonLines, kJson, kCsv, kTsv, kParquet, kMarkdown, kHtml };

// What becomes of bytes that are no UTF-8. kKeep: nothing, they are only counted. kRepair: each maximal part
// that no character begins with becomes U+FFFD. kDrop: the document goes. kRefuse: reading ends with an error
// that names the document.
enum class Utf8Policy { kKeep, kRepair, kDrop, kRefuse };

// Where a text file is cut into documents.
enum class TextSplit { kFile, kBlankLine, kLine, kSeparator };

// "text", "jsonl", "json", "csv", "tsv", "parquet", "markdown", "html"; "" and "guess" are kGuess.
// InvalidArgumentError lists them.
absl::StatusOr<Format> ParseFormat(std::string_view name);
std::string_view FormatName(Format format);
// "keep", "repair", "drop", "refuse".
absl::StatusOr<Utf8Policy> ParseUtf8Policy(std::string_view name);
std::string_view Utf8PolicyName(Utf8Policy policy);
// "file", "blank_line", "line", "separator".
absl::StatusOr<TextSplit> ParseTextSplit(std::string_view name);
std::string_view TextSplitName(TextSplit split);

struct Options {
  // What is read.
  Format format = Format::kGuess;  // By the file's name and its first bytes.
  // Field of a row that holds the text: a column's name, "a.b" for a field of a struct or an object. Empty:
  // the usual one that is there ("text", "content", ...), or the only one that holds strings.
  std::string text_column = "";
  // Field with a number that orders a curriculum. Empty: documents have no score.
  std::string score_column = "";
  bool csv_header = true;  // Without one, columns are named "1", "2", ...
  TextSplit split = TextSplit::kFile;
  std::string separator = "";  // For kSeparator, 1 to 4096 bytes, such as "<|endoftext|>".

  // What is made of it, in this order.
  Utf8Policy utf8 = Utf8Policy::kKeep;
  bool strip_bom = true;
  bool unix_line_ends = false;  // CR LF and CR alone become LF.
  bool nfc = false;             // Unicode's composed form. Bytes that are no UTF-8 stay.

  // What is kept. Lengths are in bytes of the text as it is kept; 0 is no limit.
  int64_t min_bytes = 0;
  int64_t max_bytes = 0;
  // Share of bytes that belong to words: ASCII letters and digits, and all that is not ASCII; 0 to 1.
  double min_word_share = 0;
  std::vector<std::string> must_contain = {};      // All of them.
  std::vector<std::string> must_not_contain = {};  // Any of them.
  // Drops what was there before, by 128 bits of SHA-256 of the text: about 20 to 40 bytes of memory a
  // document. A set with more documents than dedupe_documents_max is refused there, not checked by half.
  bool dedupe = false;
  int64_t dedupe_documents_max = int64_t{1} << 27;  // About 5 GiB.

  // Longest row, and longest document of those that have to be seen whole before it is known whether they
  // stay. A longer one is refused by name, or dropped and counted. Text that no filter has to see whole has
  // no limit: it passes in pieces.
  int64_t max_document_bytes = int64_t{1} << 30;
  bool drop_too_long = false;
  // Where a parquet file that comes as a stream is kept meanwhile. Empty: such a stream is refused.
  std::string spool_folder = "";
};

// InvalidArgumentError names the option that makes no sense.
absl::Status Check(const Options& options);

// Equal for options that make the same documents out of the same files: part of what identifies a data set
// that is streamed.
std::string CanonicalText(const Options& options);

}  // namespace bdh::documents
