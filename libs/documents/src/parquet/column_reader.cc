#include "parquet/column_reader.h"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "parquet/codecs.h"

namespace bdh::documents::parquet {
namespace {

constexpr int64_t kHeaderWindowBytes = 8 << 10;
// A header may hold the smallest and largest value, which a text column's writer may have forgotten to cut.
constexpr int64_t kHeaderBytesMax = 16 << 20;

template <class Value>
class PlainNumbers : public NumberDecoder {
 public:
  explicit PlainNumbers(std::string_view bytes) : bytes_(bytes) {}
  bool Next(double& out) override {
    Value value;
    if (bytes_.size() < sizeof value) return false;
    std::memcpy(&value, bytes_.data(), sizeof value);
    bytes_.remove_prefix(sizeof value);
    out = static_cast<double>(value);
    return true;
  }

 private:
  std::string_view bytes_;
};

// All first bytes, then all second ones, and so on.
template <class Value>
class SplitNumbers : public NumberDecoder {
 public:
  explicit SplitNumbers(std::string_view bytes) : bytes_(bytes) {}
  bool Next(double& out) override {
    const size_t count = bytes_.size() / sizeof(Value);
    if (at_ >= count) return false;
    char raw[sizeof(Value)];
    for (size_t i = 0; i < sizeof raw; ++i) raw[i] = bytes_[i * count + at_];
    ++at_;
    Value value;
    std::memcpy(&value, raw, sizeof value);
    out = static_cast<double>(value);
    return true;
  }

 private:
  const std::string_view bytes_;
  size_t at_ = 0;
};

class DeltaNumbers : public NumberDecoder {
 public:
  DeltaNumbers(std::string_view bytes, Type type) : is_32_(type == Type::kInt32), ok_(decoder_.Init(bytes)) {}
  bool Next(double& out) override {
    int64_t value = 0;
    if (!ok_ || !decoder_.Next(value)) return false;
    out = static_cast<double>(is_32_ ? static_cast<int32_t>(value) : value);
    return true;
  }

 private:
  DeltaDecoder decoder_;
  const bool is_32_;
  const bool ok_;
};

class DictionaryNumbers : public NumberDecoder {
 public:
  DictionaryNumbers(std::string_view bytes, const std::vector<double>& dictionary) : dictionary_(dictionary) {
    if (bytes.empty() || static_cast<unsigned char>(bytes[0]) > 32) return;
    ok_ = true;
    indices_ = HybridDecoder(bytes.substr(1), static_cast<unsigned char>(bytes[0]));
  }
  bool Next(double& out) override {
    uint32_t index = 0;
    if (!ok_ || !indices_.Next(index) || index >= dictionary_.size()) return false;
    out = dictionary_[index];
    return true;
  }

 private:
  const std::vector<double>& dictionary_;
  bool ok_ = false;
  HybridDecoder indices_;
};

std::unique_ptr<NumberDecoder> NewPlainNumbers(Type type, std::string_view bytes) {
  switch (type) {
    case Type::kInt32:
      return std::make_unique<PlainNumbers<int32_t>>(bytes);
    case Type::kInt64:
      return std::make_unique<PlainNumbers<int64_t>>(bytes);
    case Type::kFloat:
      return std::make_unique<PlainNumbers<float>>(bytes);
    default:
      return std::make_unique<PlainNumbers<double>>(bytes);
  }
}

absl::Status UnknownEncoding(int encoding) {
  return absl::InvalidArgumentError(
      absl::StrFormat("a page is encoded as %s, which is not read here for such a column; write the file "
                      "anew with plain or dictionary "
                      "encoding",
                      EncodingName(encoding)));
}

}  // namespace

ColumnReader::ColumnReader(const Options& options, const Column& column, const Chunk& chunk)
    : options_(options), column_(column), chunk_(chunk), at_(chunk.begin), left_(chunk.values) {}

ColumnReader::~ColumnReader() = default;

absl::Status ColumnReader::Damaged(std::string_view what) const {
  return absl::DataLossError(
      absl::StrFormat("page %d of column '%s': %s; fetch or make the file again", page_, column_.path, what));
}

absl::StatusOr<bool> ColumnReader::NextIsThere() {
  while (page_left_ == 0) {
    if (left_ == 0) return Damaged("it ends before its rows do");
    BDH_RETURN_IF_ERROR(NextPage());
  }
  --page_left_;
  if (column_.max_definition == 0) return true;
  uint32_t level = 0;
  if (!definitions_.Next(level)) return Damaged("its definition levels end too early");
  return level >= static_cast<uint32_t>(column_.max_definition);
}

absl::StatusOr<std::optional<std::string_view>> ColumnReader::NextString() {
  BDH_ASSIGN_OR_RETURN(const bool there, NextIsThere());
  if (!there) return std::nullopt;
  std::string_view value;
  if (!strings_->Next(value)) return Damaged("its values are damaged or end too early");
  return value;
}

absl::StatusOr<std::optional<double>> ColumnReader::NextNumber() {
  BDH_ASSIGN_OR_RETURN(const bool there, NextIsThere());
  if (!there) return std::nullopt;
  double value = 0;
  if (!numbers_->Next(value)) return Damaged("its values are damaged or end too early");
  return value;
}

absl::StatusOr<std::string> ColumnReader::ReadAt(int64_t offset, int64_t size) {
  if (offset < 4 || offset > options_.data_end || size > options_.data_end - offset) {
    return Damaged("it lies outside of the file's data");
  }
  std::string out(static_cast<size_t>(size), '\0');
  for (size_t done = 0; done < out.size();) {
    const ssize_t got = pread(options_.descriptor, out.data() + done, out.size() - done,
                              static_cast<off_t>(offset) + static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, "read it");
    if (got == 0) return Damaged("the file became shorter");
    done += static_cast<size_t>(got);
  }
  bytes_read_ += size;
  return out;
}

absl::StatusOr<PageHeader> ColumnReader::ReadHeader() {
  for (int64_t size = kHeaderWindowBytes;; size *= 8) {
    if (at_ < 4 || at_ >= options_.data_end) return Damaged("it lies outside of the file's data");
    const int64_t there = std::min(size, options_.data_end - at_);
    BDH_ASSIGN_OR_RETURN(const std::string window, ReadAt(at_, there));
    auto header = ParsePageHeader(window);
    if (!header.ok()) return Damaged(std::string(header.status().message()));
    if (*header) {
      bytes_read_ -= there - static_cast<int64_t>((*header)->header_bytes);
      return **header;
    }
    bytes_read_ -= there;
    if (there < size || size >= kHeaderBytesMax) return Damaged("its header has no end");
  }
}

absl::Status ColumnReader::CheckCrc(const PageHeader& header) const {
  if (!header.crc) return absl::OkStatus();
  const uLong crc = crc32_z(0, reinterpret_cast<const Bytef*>(compressed_.data()), compressed_.size());
  if (static_cast<uint32_t>(crc) == *header.crc) return absl::OkStatus();
  return Damaged("its checksum is wrong");
}

absl::Status ColumnReader::NextPage() {
  ++page_;
  BDH_ASSIGN_OR_RETURN(const PageHeader header, ReadHeader());
  if (std::max(header.uncompressed_bytes, header.compressed_bytes) > options_.max_page_bytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a page of column '%s' holds %d bytes, more than the limit of %d (max_document_bytes and 64 MiB); "
        "raise that, or write the file anew with smaller pages",
        column_.path, header.uncompressed_bytes, options_.max_page_bytes));
  }
  at_ += static_cast<int64_t>(header.header_bytes);
  if (header.kind != PageKind::kIndex) {
    BDH_ASSIGN_OR_RETURN(compressed_, ReadAt(at_, header.compressed_bytes));
    BDH_RETURN_IF_ERROR(CheckCrc(header));
  }
  at_ += header.compressed_bytes;
  switch (header.kind) {
    case PageKind::kIndex:
      return absl::OkStatus();
    case PageKind::kDictionary:
      return OpenDictionary(header);
    case PageKind::kData:
    case PageKind::kDataV2:
      break;
  }
  if (header.values > left_) return Damaged("it has more values than are left");
  left_ -= header.values;
  page_left_ = header.values;
  return header.kind == PageKind::kData ? OpenData(header) : OpenDataV2(header);
}

absl::Status ColumnReader::OpenDictionary(const PageHeader& header) {
  if (has_dictionary_) return Damaged("it is a second dictionary");
  if (header.encoding != static_cast<int>(Encoding::kPlain) &&
      header.encoding != static_cast<int>(Encoding::kPlainDictionary)) {
    return UnknownEncoding(header.encoding);
  }
  BDH_RETURN_IF_ERROR(Decompress(chunk_.codec, compressed_, static_cast<size_t>(header.uncompressed_bytes),
                                 dictionary_body_));
  has_dictionary_ = true;
  if (column_.type == Type::kByteArray) {
    PlainStrings values(dictionary_body_);
    std::string_view value;
    for (int64_t i = 0; i < header.values; ++i) {
      if (!values.Next(value)) return Damaged("the dictionary ends too early");
      string_dictionary_.push_back(value);
    }
    return absl::OkStatus();
  }
  const auto values = NewPlainNumbers(column_.type, dictionary_body_);
  double value = 0;
  for (int64_t i = 0; i < header.values; ++i) {
    if (!values->Next(value)) return Damaged("the dictionary ends too early");
    number_dictionary_.push_back(value);
  }
  return absl::OkStatus();
}

absl::Status ColumnReader::OpenData(const PageHeader& header) {
  BDH_RETURN_IF_ERROR(
      Decompress(chunk_.codec, compressed_, static_cast<size_t>(header.uncompressed_bytes), body_));
  std::string_view bytes = body_;
  if (column_.max_definition > 0) {
    if (header.definition_encoding != static_cast<int>(Encoding::kRle))
      return UnknownEncoding(header.definition_encoding);
    uint32_t size = 0;
    if (bytes.size() < sizeof size) return Damaged("its definition levels are cut short");
    std::memcpy(&size, bytes.data(), sizeof size);
    bytes.remove_prefix(sizeof size);
    if (size > bytes.size()) return Damaged("its definition levels are cut short");
    definitions_ =
        HybridDecoder(bytes.substr(0, size), std::bit_width(static_cast<unsigned>(column_.max_definition)));
    bytes.remove_prefix(size);
  }
  return OpenValues(header.encoding, bytes);
}

absl::Status ColumnReader::OpenDataV2(const PageHeader& header) {
  const int64_t levels = header.definition_bytes + header.repetition_bytes;
  if (levels > header.uncompressed_bytes || levels > static_cast<int64_t>(compressed_.size())) {
    return Damaged("its levels are longer than it");
  }
  // Levels are not compressed. They are kept with the values.
  const std::string_view stored = compressed_;
  const int codec = header.is_compressed ? chunk_.codec : 0;
  const auto rest = static_cast<size_t>(header.uncompressed_bytes - levels);
  BDH_RETURN_IF_ERROR(Decompress(codec, stored.substr(static_cast<size_t>(levels)), rest, body_));
  definitions_ = HybridDecoder(stored.substr(static_cast<size_t>(header.repetition_bytes),
                                             static_cast<size_t>(header.definition_bytes)),
                               std::bit_width(static_cast<unsigned>(column_.max_definition)));
  return OpenValues(header.encoding, body_);
}

absl::Status ColumnReader::OpenValues(int encoding, std::string_view bytes) {
  if (column_.type != Type::kByteArray) return OpenNumbers(encoding, bytes);
  switch (static_cast<Encoding>(encoding)) {
    case Encoding::kPlain:
      strings_ = std::make_unique<PlainStrings>(bytes);
      return absl::OkStatus();
    case Encoding::kPlainDictionary:
    case Encoding::kRleDictionary:
      if (!has_dictionary_) return Damaged("it wants a dictionary and there is none");
      strings_ = std::make_unique<DictionaryStrings>(bytes, string_dictionary_);
      return absl::OkStatus();
    case Encoding::kDeltaLengthByteArray:
      strings_ = std::make_unique<DeltaLengthStrings>(bytes);
      return absl::OkStatus();
    case Encoding::kDeltaByteArray:
      strings_ = std::make_unique<DeltaStrings>(bytes, options_.max_value_bytes);
      return absl::OkStatus();
    default:
      return UnknownEncoding(encoding);
  }
}

absl::Status ColumnReader::OpenNumbers(int encoding, std::string_view bytes) {
  const bool is_integer = column_.type == Type::kInt32 || column_.type == Type::kInt64;
  switch (static_cast<Encoding>(encoding)) {
    case Encoding::kPlain:
      numbers_ = NewPlainNumbers(column_.type, bytes);
      return absl::OkStatus();
    case Encoding::kPlainDictionary:
    case Encoding::kRleDictionary:
      if (!has_dictionary_) return Damaged("it wants a dictionary and there is none");
      numbers_ = std::make_unique<DictionaryNumbers>(bytes, number_dictionary_);
      return absl::OkStatus();
    case Encoding::kDeltaBinaryPacked:
      if (!is_integer) return UnknownEncoding(encoding);
      numbers_ = std::make_unique<DeltaNumbers>(bytes, column_.type);
      return absl::OkStatus();
    case Encoding::kByteStreamSplit:
      if (column_.type == Type::kFloat) {
        numbers_ = std::make_unique<SplitNumbers<float>>(bytes);
      } else if (column_.type == Type::kDouble) {
        numbers_ = std::make_unique<SplitNumbers<double>>(bytes);
      } else if (column_.type == Type::kInt32) {
        numbers_ = std::make_unique<SplitNumbers<int32_t>>(bytes);
      } else {
        numbers_ = std::make_unique<SplitNumbers<int64_t>>(bytes);
      }
      return absl::OkStatus();
    default:
      return UnknownEncoding(encoding);
  }
}

}  // namespace bdh::documents::parquet
