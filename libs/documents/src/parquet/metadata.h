// What a parquet file says of itself: columns, row groups, pages.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::documents::parquet {

// As the format numbers them.
enum class Type {
  kBoolean = 0,
  kInt32 = 1,
  kInt64 = 2,
  kInt96 = 3,
  kFloat = 4,
  kDouble = 5,
  kByteArray = 6,
  kFixed = 7
};
std::string_view TypeName(Type type);

struct Column {
  std::string path;  // "text", "meta.source": names of the schema joined by dots.
  Type type = Type::kBoolean;
  int max_definition = 0;
  bool repeated = false;   // Within a list or map.
  bool is_string = false;  // Annotated as text.
  bool is_decimal = false;
};

struct Chunk {
  int codec = 0;
  int64_t values = 0;
  int64_t begin = 0;       // Of its first page.
  bool elsewhere = false;  // In another file.
  bool encrypted = false;
};

struct RowGroup {
  int64_t rows = 0;
  std::vector<Chunk> chunks;  // One a column.
};

struct FileMetadata {
  std::vector<Column> columns;
  std::vector<RowGroup> groups;
};

// Checks that it makes sense on its own. InvalidArgumentError says what does not, without naming the file.
absl::StatusOr<FileMetadata> ParseFileMetadata(std::string_view footer);

enum class PageKind { kData = 0, kIndex = 1, kDictionary = 2, kDataV2 = 3 };
enum class Encoding {
  kPlain = 0,
  kPlainDictionary = 2,
  kRle = 3,
  kBitPacked = 4,
  kDeltaBinaryPacked = 5,
  kDeltaLengthByteArray = 6,
  kDeltaByteArray = 7,
  kRleDictionary = 8,
  kByteStreamSplit = 9,
};
std::string EncodingName(int encoding);

struct PageHeader {
  PageKind kind = PageKind::kData;
  size_t header_bytes = 0;
  int64_t uncompressed_bytes = 0;
  int64_t compressed_bytes = 0;
  std::optional<uint32_t> crc;
  int64_t values = 0;
  int encoding = 0;
  int definition_encoding = 3;
  // Of version 2.
  int64_t definition_bytes = 0;
  int64_t repetition_bytes = 0;
  bool is_compressed = true;
};

// Nothing: `bytes` are too few. InvalidArgumentError: they are no page header.
absl::StatusOr<std::optional<PageHeader>> ParsePageHeader(std::string_view bytes);

}  // namespace bdh::documents::parquet
