#include "known_names.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace bdh::documents {

Format FormatOfName(std::string_view name) {
  constexpr struct {
    std::string_view ending;
    Format format;
  } kEndings[] = {
      {".txt", Format::kText},          {".text", Format::kText},        {".md", Format::kMarkdown},
      {".markdown", Format::kMarkdown}, {".html", Format::kHtml},        {".htm", Format::kHtml},
      {".jsonl", Format::kJsonLines},   {".ndjson", Format::kJsonLines}, {".json", Format::kJson},
      {".csv", Format::kCsv},           {".tsv", Format::kTsv},          {".parquet", Format::kParquet},
  };
  std::string lower = absl::AsciiStrToLower(absl::string_view(name.data(), name.size()));
  for (const std::string_view packed : {".gz", ".zst", ".zstd"}) {
    if (absl::EndsWith(lower, absl::string_view(packed.data(), packed.size()))) {
      lower.resize(lower.size() - packed.size());
      break;
    }
  }
  for (const auto& [ending, format] : kEndings) {
    if (absl::EndsWith(lower, absl::string_view(ending.data(), ending.size()))) return format;
  }
  return Format::kGuess;
}

}  // namespace bdh::documents
