// The text column of a parquet file, row group after row group.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "columns.h"
#include "parquet/codecs.h"
#include "parquet/column_reader.h"
#include "parquet/metadata.h"
#include "reader.h"

namespace bdh::documents {
namespace {

constexpr int64_t kTailBytes = 8;  // Length of the footer, and the magic.
constexpr int64_t kFooterBytesMax = int64_t{256} << 20;
constexpr int64_t kPageBytesMore = int64_t{64} << 20;

using parquet::Column;
using parquet::Type;

class ParquetReader : public RowReader {
 public:
  ParquetReader(std::unique_ptr<Input> input, const Options& options)
      : input_(std::move(input)), options_(options) {}

  absl::Status Open() {
    BDH_RETURN_IF_ERROR(ReadFooter());
    return ChooseColumns();
  }

  absl::StatusOr<bool> Next(Row& row) override {
    BDH_ASSIGN_OR_RETURN(const bool there, ToNextRow());
    if (!there) return false;
    ++row_;
    row.line = row_;
    const auto text = strings_->NextString();
    if (!text.ok()) return Named(text.status());
    row.null = !text->has_value();
    text_ = text->value_or(std::string_view());
    if (numbers_ != nullptr) {
      const auto score = numbers_->NextNumber();
      if (!score.ok()) return Named(score.status());
      row.score = *score;
    }
    if (static_cast<int64_t>(text_.size()) > options_.max_document_bytes) {
      if (!options_.drop_too_long) return TooLongError(At(input_->name(), row_), "the row", options_);
      row.too_long = true;
    }
    return true;
  }

  absl::Status SkipTo(const Position& position) override {
    while (group_ < metadata_.groups.size() && metadata_.groups[group_].rows <= position.row - row_) {
      row_ += metadata_.groups[group_++].rows;
    }
    return SkipRows(*this, position.row - row_);
  }

  int64_t offset() const override { return 0; }
  int64_t line() const override { return row_; }
  int64_t file_bytes() const override { return Bytes(strings_.get()) + Bytes(numbers_.get()) + bytes_; }
  int64_t format_bytes() const override { return 0; }

 private:
  static int64_t Bytes(const parquet::ColumnReader* column) {
    return column == nullptr ? 0 : column->bytes_read();
  }

  absl::Status Refused(std::string_view what) const {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s", input_->name(), what));
  }

  absl::Status Named(const absl::Status& status) const {
    return Annotate(status, absl::StrFormat("%s: row group %d", input_->name(), group_));
  }

  absl::Status ReadAt(int64_t offset, std::string& out) const {
    for (size_t done = 0; done < out.size();) {
      const ssize_t got = pread(input_->descriptor(), out.data() + done, out.size() - done,
                                static_cast<off_t>(offset) + static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoStatus(errno, absl::StrFormat("read %s", input_->name()));
      if (got == 0) return Refused("it became shorter while it was read");
      done += static_cast<size_t>(got);
    }
    return absl::OkStatus();
  }

  absl::Status ReadFooter() {
    const int64_t size = input_->file_size();
    std::string tail(kTailBytes, '\0'), head(4, '\0');
    if (size < kTailBytes + 4) return Refused("it is too short for a parquet file; fetch or make it again");
    BDH_RETURN_IF_ERROR(ReadAt(0, head));
    BDH_RETURN_IF_ERROR(ReadAt(size - kTailBytes, tail));
    if (absl::EndsWith(tail, "PARE")) return Refused("it is encrypted; decrypt it first");
    if (head != "PAR1" || !absl::EndsWith(tail, "PAR1")) {
      return Refused(
          "it is no parquet file, or was cut short: it does not end as one; fetch or make it again");
    }
    uint32_t footer_bytes = 0;
    std::memcpy(&footer_bytes, tail.data(), sizeof footer_bytes);
    if (footer_bytes > size - kTailBytes - 4 || footer_bytes > kFooterBytesMax) {
      return Refused("its footer does not fit into it; fetch or make it again");
    }
    std::string footer(footer_bytes, '\0');
    data_end_ = size - kTailBytes - footer_bytes;
    BDH_RETURN_IF_ERROR(ReadAt(data_end_, footer));
    bytes_ = 4 + kTailBytes + footer_bytes;
    auto metadata = parquet::ParseFileMetadata(footer);
    if (!metadata.ok())
      return Refused(absl::StrFormat("%s; fetch or make it again", metadata.status().message()));
    metadata_ = *std::move(metadata);
    return absl::OkStatus();
  }

  absl::Status ChooseColumns() {
    std::vector<ColumnInfo> columns;
    const auto is_text = [](const Column& c) {
      return c.type == Type::kByteArray && c.is_string && !c.repeated;
    };
    const bool any = std::any_of(metadata_.columns.begin(), metadata_.columns.end(), is_text);
    for (const Column& column : metadata_.columns) {
      // Some writers annotate nothing.
      const bool bytes = column.type == Type::kByteArray && !column.repeated;
      columns.push_back({column.path, any ? is_text(column) : bytes});
    }
    const std::string where = input_->name() + ": ";
    const std::string& wanted = options_.text_column;
    if (const Column* list = ListNamed(wanted)) return RefuseList(wanted, *list);
    BDH_ASSIGN_OR_RETURN(const std::string text, ChooseTextColumn(where, wanted, columns));
    text_column_ = IndexOf(text);
    if (const Column& column = metadata_.columns[text_column_]; column.type != Type::kByteArray) {
      return Refused(absl::StrFormat("column '%s' holds %s; want strings (BYTE_ARRAY): choose another column",
                                     text, TypeName(column.type)));
    }
    if (options_.score_column.empty()) return absl::OkStatus();
    score_column_ = IndexOf(options_.score_column);
    if (*score_column_ == metadata_.columns.size())
      return NoSuchColumn(where, options_.score_column, columns);
    const Column& score = metadata_.columns[*score_column_];
    const bool number = score.type == Type::kInt32 || score.type == Type::kInt64 ||
                        score.type == Type::kFloat || score.type == Type::kDouble;
    if (!number || score.repeated || score.is_decimal) {
      return Refused(absl::StrFormat("column '%s' holds %s%s; a score is an integer or a float",
                                     options_.score_column, TypeName(score.type),
                                     score.is_decimal ? " as DECIMAL" : ""));
    }
    return absl::OkStatus();
  }

  size_t IndexOf(std::string_view path) const {
    size_t i = 0;
    while (i < metadata_.columns.size() && metadata_.columns[i].path != path) ++i;
    return i;
  }

  const Column* ListNamed(std::string_view wanted) const {
    for (const Column& column : metadata_.columns) {
      const bool below = column.path.size() > wanted.size() && column.path[wanted.size()] == '.';
      if (!wanted.empty() && column.repeated && column.path.compare(0, wanted.size(), wanted) == 0 &&
          (below || column.path.size() == wanted.size())) {
        return &column;
      }
    }
    return nullptr;
  }

  absl::Status RefuseList(std::string_view wanted, const Column& column) const {
    return Refused(
        absl::StrFormat("column '%s' is a list or map (%s), which is not read here; make a column of strings "
                        "of it, or choose another",
                        wanted, column.path));
  }

  // False: there is none.
  absl::StatusOr<bool> ToNextRow() {
    while (strings_ == nullptr || left_ == 0) {
      if (strings_ != nullptr) CloseGroup();
      if (group_ >= metadata_.groups.size()) return false;
      BDH_ASSIGN_OR_RETURN(strings_, OpenColumn(text_column_));
      if (score_column_) {
        BDH_ASSIGN_OR_RETURN(numbers_, OpenColumn(*score_column_));
      }
      left_ = metadata_.groups[group_].rows;
    }
    --left_;
    return true;
  }

  void CloseGroup() {
    bytes_ = file_bytes();
    strings_ = nullptr;
    numbers_ = nullptr;
    ++group_;
  }

  absl::StatusOr<std::unique_ptr<parquet::ColumnReader>> OpenColumn(size_t column) const {
    const parquet::Chunk& chunk = metadata_.groups[group_].chunks[column];
    if (chunk.elsewhere)
      return Refused("its columns are in other files; give those, or write it anew as one");
    if (chunk.encrypted) return Refused("it is encrypted; decrypt it first");
    if (const absl::Status codec = parquet::CheckCodec(chunk.codec); !codec.ok())
      return Refused(std::string(codec.message()));
    return std::make_unique<parquet::ColumnReader>(
        parquet::ColumnReader::Options{.descriptor = input_->descriptor(),
                                       .data_end = data_end_,
                                       .max_page_bytes = options_.max_document_bytes + kPageBytesMore,
                                       .max_value_bytes = static_cast<size_t>(options_.max_document_bytes)},
        metadata_.columns[column], chunk);
  }

  const std::unique_ptr<Input> input_;
  const Options& options_;
  int64_t data_end_ = 0;
  parquet::FileMetadata metadata_;
  size_t text_column_ = 0;
  std::optional<size_t> score_column_;
  int64_t bytes_ = 0;
  size_t group_ = 0;
  int64_t row_ = 0;
  int64_t left_ = 0;  // Rows of the group.
  std::unique_ptr<parquet::ColumnReader> strings_, numbers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Reader>> NewParquetReader(std::unique_ptr<Input> input,
                                                         const Options& options) {
  auto reader = std::make_unique<ParquetReader>(std::move(input), options);
  BDH_RETURN_IF_ERROR(reader->Open());
  return reader;
}

}  // namespace bdh::documents
