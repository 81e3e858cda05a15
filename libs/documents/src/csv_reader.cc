// RFC 4180: fields in quotes may hold delimiters, line ends and doubled quotes. A line may end in CR LF, LF
// or CR.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "columns.h"
#include "reader.h"
#include "scan.h"

namespace bdh::documents {
namespace {

constexpr size_t kColumnsMax = 100'000;
constexpr int64_t kHeaderBytesMax = int64_t{1} << 20;

class CsvReader : public RowReader {
 public:
  CsvReader(std::unique_ptr<Input> input, const Options& options, char delimiter)
      : input_(std::move(input)), options_(options), delimiter_(delimiter) {}

  absl::StatusOr<bool> Next(Row& row) override {
    BDH_RETURN_IF_ERROR(Prepare());
    BDH_ASSIGN_OR_RETURN(const bool there, ReadRecord(row));
    if (!there) return false;
    if (row.too_long) return true;
    if (fields_ != columns_) return Ragged(row);
    return TakeRow(row);
  }

  absl::Status SkipTo(const Position& position) override {
    if (!input_->seekable() || position.offset < 0 || position.row == 0) return SkipRows(*this, position.row);
    BDH_RETURN_IF_ERROR(Prepare());
    BDH_RETURN_IF_ERROR(input_->Seek(position.offset));
    first_.clear();
    at_end_ = false;
    line_ = position.line;
    skipped_bytes_ = position.offset;
    text_bytes_ = 0;
    return absl::OkStatus();
  }

  int64_t offset() const override { return input_->offset(); }
  int64_t line() const override { return line_; }
  int64_t file_bytes() const override { return input_->file_bytes(); }
  int64_t format_bytes() const override { return input_->offset() - skipped_bytes_ - text_bytes_; }

 private:
  enum class After { kField, kRecord, kEnd };

  // Learns the columns from the header, or from the first record, which is then read again.
  absl::Status Prepare() {
    if (prepared_) return absl::OkStatus();
    prepared_ = true;
    while (input_->data().size() < 3 && !at_end_) BDH_RETURN_IF_ERROR(Fill());
    if (input_->data().substr(0, 3) == "\xef\xbb\xbf") input_->Consume(3);
    names_ = std::make_unique<std::vector<std::string>>();
    Row row;
    BDH_ASSIGN_OR_RETURN(const bool there, ReadRecord(row));
    const std::unique_ptr<std::vector<std::string>> header = std::move(names_);
    if (!there) return absl::OkStatus();
    columns_ = fields_;
    std::vector<ColumnInfo> columns;
    for (size_t i = 0; i < header->size(); ++i) {
      columns.push_back({options_.csv_header ? (*header)[i] : absl::StrFormat("%d", i + 1), true});
    }
    const std::string where = At(input_->name(), row.line);
    BDH_ASSIGN_OR_RETURN(const std::string text, ChooseTextColumn(where, options_.text_column, columns));
    text_column_ = IndexOf(columns, text);
    if (!options_.score_column.empty()) {
      score_column_ = IndexOf(columns, options_.score_column);
      if (score_column_ == columns.size()) return NoSuchColumn(where, options_.score_column, columns);
    }
    if (options_.csv_header) return absl::OkStatus();

    first_ = std::move(*header);
    first_row_ = row;
    return absl::OkStatus();
  }

  static size_t IndexOf(const std::vector<ColumnInfo>& columns, std::string_view name) {
    size_t i = 0;
    while (i < columns.size() && columns[i].name != name) ++i;
    return i;
  }

  absl::Status Ragged(const Row& row) const {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%sthe row has %d fields, the %s %d; mend the row (a field with a delimiter, quote or line end in it "
        "must stand "
        "in quotes), or choose another format",
        At(input_->name(), row.line), fields_, options_.csv_header ? "header" : "first row", columns_));
  }

  absl::StatusOr<bool> TakeRow(Row& row) {
    if (!options_.score_column.empty() && !score_.empty()) {
      double score = 0;
      if (!absl::SimpleAtod(score_, &score)) {
        return absl::InvalidArgumentError(absl::StrFormat("%s'%s' is '%s'; a score is a number",
                                                          At(input_->name(), row.line), options_.score_column,
                                                          score_.substr(0, 100)));
      }
      row.score = score;
    }
    text_ = field_text_;
    text_bytes_ += static_cast<int64_t>(text_.size());
    return true;
  }

  // Reads one record into field_text_, score_ and fields_, or all its fields into names_. Empty lines are
  // passed over where a row has more than one column.
  absl::StatusOr<bool> ReadRecord(Row& row) {
    if (!first_.empty()) return ReplayFirst(row);
    while (true) {
      if (input_->data().empty() && !at_end_) BDH_RETURN_IF_ERROR(Fill());
      if (input_->data().empty()) return false;
      const char c = input_->data().front();
      if ((c != '\n' && c != '\r') || columns_ == 1) break;
      BDH_RETURN_IF_ERROR(PassLineEnd());
    }
    row.line = line_ + 1;
    row.offset = input_->offset();
    record_begin_ = input_->offset();
    fields_ = 0;
    too_long_ = false;
    field_text_.clear();
    score_.clear();
    while (true) {
      std::string* const target = Target();
      BDH_ASSIGN_OR_RETURN(const After after, ReadField(row.line, target));
      ++fields_;
      if (fields_ > kColumnsMax) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%sthe row has more than %d fields; is this a csv file?",
                            At(input_->name(), row.line), kColumnsMax));
      }
      if (after != After::kField) break;
    }
    row.too_long = too_long_;
    return true;
  }

  absl::StatusOr<bool> ReplayFirst(Row& row) {
    row = first_row_;
    fields_ = first_.size();
    field_text_ = first_[text_column_];
    score_ = options_.score_column.empty() ? "" : first_[score_column_];
    first_.clear();
    return true;
  }

  std::string* Target() {
    if (names_ != nullptr) return &names_->emplace_back();
    if (fields_ == text_column_) return &field_text_;
    return !options_.score_column.empty() && fields_ == score_column_ ? &score_ : nullptr;
  }

  absl::StatusOr<After> ReadField(int64_t record_line, std::string* target) {
    if (input_->data().empty() && !at_end_) BDH_RETURN_IF_ERROR(Fill());
    if (!input_->data().empty() && input_->data().front() == '"') return ReadQuoted(record_line, target);
    return ReadPlain(record_line, target);
  }

  absl::StatusOr<After> ReadPlain(int64_t record_line, std::string* target) {
    while (true) {
      const std::string_view data = input_->data();
      const char* const begin = data.data();
      const char* const end = begin + data.size();
      const char* const stop =
          delimiter_ == ',' ? FindAny<',', '\n', '\r'>(begin, end) : FindAny<'\t', '\n', '\r'>(begin, end);
      BDH_RETURN_IF_ERROR(
          Take(record_line, std::string_view(begin, static_cast<size_t>(stop - begin)), target));
      input_->Consume(static_cast<size_t>(stop - begin));
      if (stop != end) return Separator();
      if (at_end_) return After::kEnd;
      BDH_RETURN_IF_ERROR(Fill());
    }
  }

  absl::StatusOr<After> ReadQuoted(int64_t record_line, std::string* target) {
    const int64_t opened = line_ + 1;
    input_->Consume(1);
    while (true) {
      const std::string_view data = input_->data();
      const size_t quote = data.find('"');
      const size_t length = std::min(quote, data.size());
      const std::string_view part = data.substr(0, length);
      line_ += std::count(part.begin(), part.end(), '\n');
      BDH_RETURN_IF_ERROR(Take(record_line, part, target));
      input_->Consume(length);
      if (quote != std::string_view::npos) {
        BDH_ASSIGN_OR_RETURN(const char next, CharBehindQuote());
        input_->Consume(1);
        if (next == '"') {
          BDH_RETURN_IF_ERROR(Take(record_line, "\"", target));
          input_->Consume(1);
          continue;
        }
        if (input_->data().empty()) return After::kEnd;
        if (next == delimiter_ || next == '\n' || next == '\r') return Separator();
        return absl::InvalidArgumentError(absl::StrFormat(
            "%stext follows a quoted field's closing quote; a quote within quotes must be doubled (\"\")",
            At(input_->name(), line_ + 1)));
      }
      if (at_end_) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%sa quote opens here and never closes; close it, or the file was cut short",
                            At(input_->name(), opened)));
      }
      BDH_RETURN_IF_ERROR(Fill());
    }
  }

  // The data begins with a quote: what follows it, or 0 at the end.
  absl::StatusOr<char> CharBehindQuote() {
    while (input_->data().size() < 2 && !at_end_) BDH_RETURN_IF_ERROR(Fill());
    return input_->data().size() < 2 ? '\0' : input_->data()[1];
  }

  absl::Status Take(int64_t record_line, std::string_view part, std::string* target) {
    const int64_t limit =
        names_ != nullptr && options_.csv_header ? kHeaderBytesMax : options_.max_document_bytes;
    if (!too_long_ && input_->offset() - record_begin_ + static_cast<int64_t>(part.size()) > limit) {
      if (names_ != nullptr || !options_.drop_too_long) {
        return TooLongError(At(input_->name(), record_line), names_ != nullptr ? "the header" : "the row",
                            options_);
      }
      too_long_ = true;
      field_text_ = std::string();
    }
    if (target != nullptr && !too_long_) target->append(part);
    return absl::OkStatus();
  }

  absl::StatusOr<After> Separator() {
    if (input_->data().front() == delimiter_) {
      input_->Consume(1);
      return After::kField;
    }
    BDH_RETURN_IF_ERROR(PassLineEnd());
    return After::kRecord;
  }

  absl::Status PassLineEnd() {
    const bool cr = input_->data().front() == '\r';
    ++line_;
    input_->Consume(1);
    if (!cr) return absl::OkStatus();
    if (input_->data().empty() && !at_end_) BDH_RETURN_IF_ERROR(Fill());
    if (!input_->data().empty() && input_->data().front() == '\n') input_->Consume(1);
    return absl::OkStatus();
  }

  absl::Status Fill() {
    BDH_ASSIGN_OR_RETURN(const bool more, input_->Fill());
    at_end_ = !more;
    return absl::OkStatus();
  }

  const std::unique_ptr<Input> input_;
  const Options& options_;
  const char delimiter_;
  bool prepared_ = false;
  bool at_end_ = false;
  size_t columns_ = 0;
  size_t text_column_ = 0, score_column_ = 0;
  std::unique_ptr<std::vector<std::string>> names_;  // Set while the header is read.
  std::vector<std::string> first_;                   // A first record that was read to count the columns.
  Row first_row_;
  int64_t line_ = 0;
  int64_t record_begin_ = 0;
  int64_t skipped_bytes_ = 0;
  int64_t text_bytes_ = 0;
  size_t fields_ = 0;
  bool too_long_ = false;
  std::string field_text_, score_;
};

}  // namespace

std::unique_ptr<Reader> NewCsvReader(std::unique_ptr<Input> input, const Options& options, char delimiter) {
  return std::make_unique<CsvReader>(std::move(input), options, delimiter);
}

}  // namespace bdh::documents
