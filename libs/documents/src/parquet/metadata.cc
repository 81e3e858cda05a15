#include "parquet/metadata.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "parquet/thrift.h"

namespace bdh::documents::parquet {
namespace {

constexpr int kSchemaDepthMax = 64;
constexpr size_t kColumnsMax = 100'000;
constexpr int kRequired = 0, kRepeated = 2;
constexpr int64_t kRowsMax = int64_t{1} << 48;

struct Element {
  int type = -1;  // None: a group.
  int repetition = kRequired;
  std::string name;
  int64_t children = 0;
  bool is_string = false;
  bool is_decimal = false;
};

absl::Status Damaged(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrFormat("its footer is damaged: %s", what));
}

int Small(int64_t value) {
  return value < -1 || value > 1000 ? 1000 : static_cast<int>(value);
}

void ParseLogicalType(ThriftReader& in, Element& element) {
  constexpr int kString = 1, kEnum = 4, kDecimal = 5, kJson = 12;
  for (in.BeginStruct(); in.ok() && in.NextField(); in.Skip()) {
    element.is_string =
        element.is_string || in.field() == kString || in.field() == kEnum || in.field() == kJson;
    element.is_decimal = element.is_decimal || in.field() == kDecimal;
  }
}

Element ParseElement(ThriftReader& in) {
  constexpr int kUtf8 = 0, kEnum = 4, kDecimal = 5, kJson = 19;
  Element element;
  for (in.BeginStruct(); in.ok() && in.NextField();) {
    switch (in.field()) {
      case 1:
        element.type = Small(in.Integer());
        break;
      case 3:
        element.repetition = Small(in.Integer());
        break;
      case 4:
        element.name = in.Binary();
        break;
      case 5:
        element.children = in.Integer();
        break;
      case 6: {
        const int64_t converted = in.Integer();
        element.is_string =
            element.is_string || converted == kUtf8 || converted == kEnum || converted == kJson;
        element.is_decimal = element.is_decimal || converted == kDecimal;
        break;
      }
      case 10:
        if (in.type() == ThriftType::kStruct) {
          ParseLogicalType(in, element);
        } else {
          in.Skip();
        }
        break;
      default:
        in.Skip();
    }
  }
  return element;
}

void ParseColumnMetadata(ThriftReader& in, Chunk& chunk) {
  int64_t data = 0, dictionary = 0;
  for (in.BeginStruct(); in.ok() && in.NextField();) {
    switch (in.field()) {
      case 4:
        chunk.codec = Small(in.Integer());
        break;
      case 5:
        chunk.values = in.Integer();
        break;
      case 9:
        data = in.Integer();
        break;
      case 11:
        dictionary = in.Integer();
        break;
      default:
        in.Skip();
    }
  }
  chunk.begin = dictionary > 0 && dictionary < data ? dictionary : data;
}

Chunk ParseChunk(ThriftReader& in) {
  Chunk chunk;
  for (in.BeginStruct(); in.ok() && in.NextField();) {
    switch (in.field()) {
      case 1:
        chunk.elsewhere = !in.Binary().empty();
        break;
      case 3:
        if (in.type() == ThriftType::kStruct) {
          ParseColumnMetadata(in, chunk);
        } else {
          in.Skip();
        }
        break;
      case 8:
        chunk.encrypted = true;
        in.Skip();
        break;
      default:
        in.Skip();
    }
  }
  return chunk;
}

template <class Item>
std::vector<Item> ParseList(ThriftReader& in, Item (*parse)(ThriftReader&)) {
  std::vector<Item> out;
  ThriftType type;
  int64_t left = in.BeginList(type);
  if (type != ThriftType::kStruct) {
    for (; left > 0 && in.ok(); --left) in.SkipElement(type);
    return out;
  }
  for (; left > 0 && in.ok(); --left) out.push_back(parse(in));
  return out;
}

RowGroup ParseGroup(ThriftReader& in) {
  RowGroup group;
  for (in.BeginStruct(); in.ok() && in.NextField();) {
    switch (in.field()) {
      case 1:
        group.chunks = ParseList(in, ParseChunk);
        break;
      case 3:
        group.rows = in.Integer();
        break;
      default:
        in.Skip();
    }
  }
  return group;
}

// Flattens the tree, which stands in order of depth, into columns.
class SchemaWalker {
 public:
  SchemaWalker(const std::vector<Element>& elements, std::vector<Column>& columns)
      : elements_(elements), columns_(columns) {}

  absl::Status Walk() {
    if (elements_.empty()) return Damaged("it has no schema");
    at_ = 1;
    for (int64_t i = 0; i < elements_[0].children; ++i) BDH_RETURN_IF_ERROR(Visit({}, 1));
    if (at_ != elements_.size()) return Damaged("its schema has fields that belong nowhere");
    return absl::OkStatus();
  }

 private:
  absl::Status Visit(const Column& parent, int depth) {
    if (depth > kSchemaDepthMax) return Damaged("its schema is nested too deeply");
    if (at_ >= elements_.size()) return Damaged("its schema lacks fields");
    const Element& element = elements_[at_++];
    if (element.repetition < kRequired || element.repetition > kRepeated)
      return Damaged("a field's repetition");
    Column column = parent;
    column.path += (column.path.empty() ? "" : ".") + element.name;
    column.max_definition += element.repetition == kRequired ? 0 : 1;
    column.repeated = column.repeated || element.repetition == kRepeated;
    if (element.children > 0) {
      for (int64_t i = 0; i < element.children; ++i) BDH_RETURN_IF_ERROR(Visit(column, depth + 1));
      return absl::OkStatus();
    }
    if (element.type < 0 || element.type > static_cast<int>(Type::kFixed)) return Damaged("a column's type");
    if (columns_.size() >= kColumnsMax) return Damaged("it has too many columns");
    column.type = static_cast<Type>(element.type);
    column.is_string = element.is_string;
    column.is_decimal = element.is_decimal;
    columns_.push_back(std::move(column));
    return absl::OkStatus();
  }

  const std::vector<Element>& elements_;
  std::vector<Column>& columns_;
  size_t at_ = 0;
};

absl::Status CheckGroups(const FileMetadata& metadata) {
  int64_t rows = 0;
  for (const RowGroup& group : metadata.groups) {
    if (group.rows < 0 || group.rows > kRowsMax || (rows += group.rows) > kRowsMax) {
      return Damaged("a row group's number of rows");
    }
    if (group.chunks.size() != metadata.columns.size()) return Damaged("a row group lacks columns");
    for (size_t i = 0; i < group.chunks.size(); ++i) {
      if (!metadata.columns[i].repeated && group.chunks[i].values != group.rows &&
          !group.chunks[i].encrypted) {
        return Damaged("a column has another number of values than its row group has rows");
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view TypeName(Type type) {
  constexpr std::string_view kNames[] = {"BOOLEAN", "INT32",  "INT64",      "INT96",
                                         "FLOAT",   "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"};
  return kNames[static_cast<size_t>(type)];
}

std::string EncodingName(int encoding) {
  constexpr std::string_view kNames[] = {
      "PLAIN",          "GROUP_VAR_INT",       "PLAIN_DICTIONARY",        "RLE",
      "BIT_PACKED",     "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY",
      "RLE_DICTIONARY", "BYTE_STREAM_SPLIT"};
  if (encoding >= 0 && static_cast<size_t>(encoding) < std::size(kNames)) {
    return std::string(kNames[static_cast<size_t>(encoding)]);
  }
  return absl::StrFormat("number %d", encoding);
}

absl::StatusOr<FileMetadata> ParseFileMetadata(std::string_view footer) {
  FileMetadata metadata;
  std::vector<Element> schema;
  bool encrypted = false;
  ThriftReader in(footer);
  for (in.BeginStruct(); in.ok() && in.NextField();) {
    switch (in.field()) {
      case 2:
        schema = ParseList(in, ParseElement);
        break;
      case 4:
        metadata.groups = ParseList(in, ParseGroup);
        break;
      case 8:
        encrypted = true;
        in.Skip();
        break;
      default:
        in.Skip();
    }
  }
  if (!in.ok()) return Damaged("it is no thrift structure");
  if (encrypted) return absl::InvalidArgumentError("it is encrypted; decrypt it first");
  BDH_RETURN_IF_ERROR(SchemaWalker(schema, metadata.columns).Walk());
  BDH_RETURN_IF_ERROR(CheckGroups(metadata));
  return metadata;
}

namespace {

void ParseDataHeader(ThriftReader& in, PageHeader& header) {
  for (in.BeginStruct(); in.ok() && in.NextField();) {
    switch (in.field()) {
      case 1:
        header.values = in.Integer();
        break;
      case 2:
        header.encoding = Small(in.Integer());
        break;
      case 3:
        // In a dictionary's header this is whether it is sorted.
        if (in.type() == ThriftType::kI32) {
          header.definition_encoding = Small(in.Integer());
        } else {
          in.Skip();
        }
        break;
      default:
        in.Skip();
    }
  }
}

void ParseDataHeaderV2(ThriftReader& in, PageHeader& header) {
  for (in.BeginStruct(); in.ok() && in.NextField();) {
    switch (in.field()) {
      case 1:
        header.values = in.Integer();
        break;
      case 4:
        header.encoding = Small(in.Integer());
        break;
      case 5:
        header.definition_bytes = in.Integer();
        break;
      case 6:
        header.repetition_bytes = in.Integer();
        break;
      case 7:
        header.is_compressed = in.Bool();
        break;
      default:
        in.Skip();
    }
  }
}

}  // namespace

absl::StatusOr<std::optional<PageHeader>> ParsePageHeader(std::string_view bytes) {
  PageHeader header;
  int64_t kind = -1;
  ThriftReader in(bytes);
  for (in.BeginStruct(); in.ok() && in.NextField();) {
    switch (in.field()) {
      case 1:
        kind = in.Integer();
        break;
      case 2:
        header.uncompressed_bytes = in.Integer();
        break;
      case 3:
        header.compressed_bytes = in.Integer();
        break;
      case 4:
        header.crc = static_cast<uint32_t>(in.Integer());
        break;
      case 5:
      case 7:
      case 8:
        if (in.type() != ThriftType::kStruct) {
          in.Skip();
        } else if (in.field() == 8) {
          ParseDataHeaderV2(in, header);
        } else {
          ParseDataHeader(in, header);
        }
        break;
      default:
        in.Skip();
    }
  }
  if (in.ran_out()) return std::nullopt;
  const bool sane = in.ok() && kind >= 0 && kind <= 3 && header.uncompressed_bytes >= 0 &&
                    header.uncompressed_bytes <= INT32_MAX && header.compressed_bytes >= 0 &&
                    header.compressed_bytes <= INT32_MAX && header.values >= 0 &&
                    header.values <= INT32_MAX && header.definition_bytes >= 0 &&
                    header.repetition_bytes >= 0 && header.definition_bytes <= INT32_MAX &&
                    header.repetition_bytes <= INT32_MAX;
  if (!sane) return absl::InvalidArgumentError("a page's header is damaged");
  header.kind = static_cast<PageKind>(kind);
  header.header_bytes = in.position();
  return header;
}

}  // namespace bdh::documents::parquet
