#include "bdh/documents/options.h"

#include <array>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"

namespace bdh::documents {
namespace {

constexpr size_t kSeparatorBytesMax = 4096;
constexpr int64_t kMaxDocumentBytes = int64_t{1} << 40;

template <class Value>
using Names = std::pair<std::string_view, Value>;

constexpr Names<Format> kFormats[] = {
    {"guess", Format::kGuess},     {"text", Format::kText},         {"jsonl", Format::kJsonLines},
    {"json", Format::kJson},       {"csv", Format::kCsv},           {"tsv", Format::kTsv},
    {"parquet", Format::kParquet}, {"markdown", Format::kMarkdown}, {"html", Format::kHtml},
};
constexpr Names<Utf8Policy> kPolicies[] = {{"keep", Utf8Policy::kKeep},
                                           {"repair", Utf8Policy::kRepair},
                                           {"drop", Utf8Policy::kDrop},
                                           {"refuse", Utf8Policy::kRefuse}};
constexpr Names<TextSplit> kSplits[] = {{"file", TextSplit::kFile},
                                        {"blank_line", TextSplit::kBlankLine},
                                        {"line", TextSplit::kLine},
                                        {"separator", TextSplit::kSeparator}};

template <class Value, size_t N>
absl::StatusOr<Value> Parse(std::string_view what, const Names<Value> (&names)[N], std::string_view name) {
  std::string all;
  for (const auto& [known, value] : names) {
    if (known == name) return value;
    absl::StrAppendFormat(&all, "%s%s", all.empty() ? "" : ", ", known);
  }
  return absl::InvalidArgumentError(absl::StrFormat("%s is '%s'; want one of %s", what, name, all));
}

template <class Value, size_t N>
std::string_view NameOf(const Names<Value> (&names)[N], Value wanted) {
  for (const auto& [name, value] : names) {
    if (value == wanted) return name;
  }
  return "";
}

// A field of CanonicalText: what is in it cannot look like the next one.
std::string Field(std::string_view key, std::string_view value) {
  return absl::StrFormat("%s %d:%s\n", key, value.size(), value);
}

std::string Field(std::string_view key, double value) {
  return Field(key, absl::StrFormat("%.17g", value));
}

}  // namespace

absl::StatusOr<Format> ParseFormat(std::string_view name) {
  return Parse("format", kFormats, name.empty() ? "guess" : name);
}
std::string_view FormatName(Format format) {
  return NameOf(kFormats, format);
}
absl::StatusOr<Utf8Policy> ParseUtf8Policy(std::string_view name) {
  return Parse("UTF-8 policy", kPolicies, name);
}
std::string_view Utf8PolicyName(Utf8Policy policy) {
  return NameOf(kPolicies, policy);
}
absl::StatusOr<TextSplit> ParseTextSplit(std::string_view name) {
  return Parse("split", kSplits, name);
}
std::string_view TextSplitName(TextSplit split) {
  return NameOf(kSplits, split);
}

absl::Status Check(const Options& options) {
  if (options.split == TextSplit::kSeparator &&
      (options.separator.empty() || options.separator.size() > kSeparatorBytesMax)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("separator has %d bytes; a split by separator wants 1 to %d, such as <|endoftext|>",
                        options.separator.size(), kSeparatorBytesMax));
  }
  if (options.split != TextSplit::kSeparator && !options.separator.empty()) {
    return absl::InvalidArgumentError("a separator is given, but split is not 'separator'; give both");
  }
  if (options.min_bytes < 0 || options.max_bytes < 0) {
    return absl::InvalidArgumentError("min_bytes and max_bytes are lengths; want 0 (no limit) or more");
  }
  if (options.max_bytes > 0 && options.min_bytes > options.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("min_bytes %d is more than max_bytes %d: nothing would be kept", options.min_bytes,
                        options.max_bytes));
  }
  if (!(options.min_word_share >= 0 && options.min_word_share <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("min_word_share is %g; want 0 to 1", options.min_word_share));
  }
  if (options.max_document_bytes < 1024 || options.max_document_bytes > kMaxDocumentBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("max_document_bytes is %d; want 1024 to %d",
                                                      options.max_document_bytes, kMaxDocumentBytes));
  }
  if (options.min_bytes > options.max_document_bytes) {
    return absl::InvalidArgumentError(absl::StrFormat("min_bytes %d is more than max_document_bytes %d",
                                                      options.min_bytes, options.max_document_bytes));
  }
  if (options.dedupe && options.dedupe_documents_max < 1) {
    return absl::InvalidArgumentError("dedupe_documents_max is below 1");
  }
  return absl::OkStatus();
}

std::string CanonicalText(const Options& options) {
  std::string out = Field("format", FormatName(options.format));
  out += Field("text_column", options.text_column);
  out += Field("score_column", options.score_column);
  out += Field("csv_header", options.csv_header);
  out += Field("split", TextSplitName(options.split));
  out += Field("separator", options.separator);
  out += Field("utf8", Utf8PolicyName(options.utf8));
  out += Field("strip_bom", options.strip_bom);
  out += Field("unix_line_ends", options.unix_line_ends);
  out += Field("nfc", options.nfc);
  out += Field("min_bytes", static_cast<double>(options.min_bytes));
  out += Field("max_bytes", static_cast<double>(options.max_bytes));
  out += Field("min_word_share", options.min_word_share);
  for (const std::string& text : options.must_contain) out += Field("must_contain", text);
  for (const std::string& text : options.must_not_contain) out += Field("must_not_contain", text);
  out += Field("dedupe", options.dedupe);
  if (options.drop_too_long)
    out += Field("max_document_bytes", static_cast<double>(options.max_document_bytes));
  return out;
}

}  // namespace bdh::documents
