// Rows of JSON: a line each, or the values of a file that is an array or has one object after the other.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "columns.h"
#include "json_fields.h"
#include "reader.h"
#include "scan.h"

namespace bdh::documents {
namespace {

constexpr int64_t kRowsWithoutColumn = 1000;

// What both kinds share: a row of bytes becomes text and score.
class JsonReaderBase : public RowReader {
 public:
  JsonReaderBase(std::unique_ptr<Input> input, const Options& options)
      : input_(std::move(input)), options_(options) {}

  absl::StatusOr<bool> Next(Row& row) final {
    Consume(std::exchange(row_bytes_, 0));
    BDH_ASSIGN_OR_RETURN(const bool there, FindRow(row));
    if (!there) {
      // Columns that no row had are a wrong name, not a set without text.
      BDH_RETURN_IF_ERROR(rows_ > 0 && !seen_column_ && parser_ ? Missing() : absl::OkStatus());
      return false;
    }
    ++rows_;
    if (!row.too_long) BDH_RETURN_IF_ERROR(TakeRow(row));
    return true;
  }

  absl::Status SkipTo(const Position& position) override {
    if (!input_->seekable() || position.offset < 0 || position.row == 0) return SkipRows(*this, position.row);
    // The first row chooses the column.
    Row first;
    BDH_RETURN_IF_ERROR(Next(first).status());
    BDH_RETURN_IF_ERROR(input_->Seek(position.offset));
    at_end_ = false;
    row_bytes_ = 0;
    row_lines_ = 0;
    text_bytes_ = 0;
    skipped_bytes_ = position.offset;
    line_ = position.line;
    seen_column_ = true;  // What the rows before had is not known.
    Restart();
    return absl::OkStatus();
  }

  int64_t offset() const final { return input_->offset() + static_cast<int64_t>(row_bytes_); }
  int64_t line() const final { return line_ + row_lines_; }
  int64_t file_bytes() const final { return input_->file_bytes(); }
  int64_t format_bytes() const final { return offset() - skipped_bytes_ - text_bytes_; }

 protected:
  // Makes the row's bytes the first row_bytes_ of the input, of which `row_` is the value; sets row.line,
  // offset and too_long.
  virtual absl::StatusOr<bool> FindRow(Row& row) = 0;
  // The input stands elsewhere: before a row, or before what comes between rows.
  virtual void Restart() {}

  absl::Status Fill() {
    BDH_ASSIGN_OR_RETURN(const bool more, input_->Fill());
    at_end_ = !more;
    return absl::OkStatus();
  }

  void Consume(size_t count) {
    input_->Consume(count);
    line_ += std::exchange(row_lines_, 0);
  }

  bool TooLong(size_t bytes) const { return static_cast<int64_t>(bytes) > options_.max_document_bytes; }

  const std::unique_ptr<Input> input_;
  const Options& options_;
  bool at_end_ = false;
  std::string_view row_;
  size_t row_bytes_ = 0;
  int64_t row_lines_ = 0;  // Line ends in them.
  int64_t line_ = 0;
  int64_t skipped_bytes_ = 0;

 private:
  absl::Status BadRow(const Row& row, const JsonError& error) {
    const std::string_view before = row_.substr(0, error.offset);
    const int64_t line = row.line + std::count(before.begin(), before.end(), '\n');
    const size_t column = error.offset - (before.rfind('\n') + 1) + 1;
    return absl::InvalidArgumentError(
        absl::StrFormat("%sno JSON at column %d: %s; mend the row or take it out", At(input_->name(), line),
                        column, error.what));
  }

  absl::Status ChooseColumns(const Row& row) {
    std::vector<std::pair<std::string, JsonKind>> fields;
    if (const auto error = ListJsonFields(row_, fields)) return BadRow(row, *error);
    columns_.clear();
    for (const auto& [name, kind] : fields) columns_.push_back({name, kind == JsonKind::kString});
    std::string column = options_.text_column;
    if (column.empty()) {
      BDH_ASSIGN_OR_RETURN(column, ChooseTextColumn(At(input_->name(), row.line), "", columns_));
    }
    parser_.emplace(SplitPath(column), SplitPath(options_.score_column));
    column_ = column;
    return absl::OkStatus();
  }

  // A field's own name may have a dot.
  std::vector<std::string> SplitPath(const std::string& path) const {
    const bool plain =
        std::any_of(columns_.begin(), columns_.end(), [&](const auto& c) { return c.name == path; });
    return plain ? std::vector<std::string>{path} : SplitFieldPath(path);
  }

  absl::Status Missing() {
    return NoSuchColumn(absl::StrFormat("%s: in its first %d rows ", input_->name(), rows_), column_,
                        columns_);
  }

  absl::Status TakeRow(Row& row) {
    if (!parser_) BDH_RETURN_IF_ERROR(ChooseColumns(row));
    if (const auto error = parser_->Parse(row_, fields_)) return BadRow(row, *error);
    seen_column_ = seen_column_ || fields_.text_kind != JsonKind::kAbsent;
    if (!seen_column_ && rows_ >= kRowsWithoutColumn) return Missing();
    row.null = fields_.text_kind == JsonKind::kAbsent || fields_.text_kind == JsonKind::kNull;
    if (!row.null && fields_.text_kind != JsonKind::kString) {
      return absl::InvalidArgumentError(absl::StrFormat("%s'%s' is %s; want a string: choose another column",
                                                        At(input_->name(), row.line), column_,
                                                        JsonKindName(fields_.text_kind)));
    }
    if (fields_.score_kind == JsonKind::kNumber) {
      row.score = fields_.score;
    } else if (fields_.score_kind != JsonKind::kAbsent && fields_.score_kind != JsonKind::kNull) {
      return absl::InvalidArgumentError(absl::StrFormat("%s'%s' is %s; a score is a number",
                                                        At(input_->name(), row.line), options_.score_column,
                                                        JsonKindName(fields_.score_kind)));
    }
    text_ = fields_.text;
    text_bytes_ += static_cast<int64_t>(text_.size());
    return absl::OkStatus();
  }

  std::optional<JsonFieldParser> parser_;
  std::vector<ColumnInfo> columns_;
  std::string column_;
  JsonFields fields_;
  int64_t rows_ = 0;
  bool seen_column_ = false;
  int64_t text_bytes_ = 0;
};

bool IsBlank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

class JsonLinesReader : public JsonReaderBase {
 public:
  using JsonReaderBase::JsonReaderBase;

 protected:
  absl::StatusOr<bool> FindRow(Row& row) override {
    while (true) {
      BDH_ASSIGN_OR_RETURN(const bool there, FindLine(row));
      if (!there || row.too_long || !IsBlank(row_)) return there;
      Consume(std::exchange(row_bytes_, 0));
    }
  }

 private:
  absl::StatusOr<bool> FindLine(Row& row) {
    row.offset = input_->offset();
    row.line = line_ + 1;
    size_t searched = 0;
    while (true) {
      const std::string_view data = input_->data();
      const size_t end = data.find('\n', searched);
      if (end != std::string_view::npos || at_end_) {
        if (data.empty()) return false;
        const bool cut = end != std::string_view::npos;
        row_ = data.substr(0, cut ? end : data.size());
        if (row.offset == 0 && row_.substr(0, 3) == "\xef\xbb\xbf") row_.remove_prefix(3);
        row_bytes_ = cut ? end + 1 : data.size();
        row_lines_ = cut ? 1 : 0;
        if (TooLong(row_.size())) return PassLine(row);
        return true;
      }
      searched = data.size();
      if (TooLong(searched)) return PassLine(row);
      BDH_RETURN_IF_ERROR(Fill());
    }
  }

  absl::StatusOr<bool> PassLine(Row& row) {
    if (!options_.drop_too_long) return TooLongError(At(input_->name(), row.line), "the line", options_);
    row.too_long = true;
    row_bytes_ = 0;
    while (true) {
      const std::string_view data = input_->data();
      const size_t end = data.find('\n');
      if (end != std::string_view::npos) {
        row_lines_ = 1;
        Consume(end + 1);
        return true;
      }
      input_->Consume(data.size());
      if (at_end_) return true;
      BDH_RETURN_IF_ERROR(Fill());
    }
  }
};

// Finds where a value ends without knowing more of it than brackets and strings.
class JsonReader : public JsonReaderBase {
 public:
  using JsonReaderBase::JsonReaderBase;

 protected:
  void Restart() override { restarted_ = true; }

  absl::StatusOr<bool> FindRow(Row& row) override {
    BDH_ASSIGN_OR_RETURN(const bool there, PassToValue());
    if (!there) return false;
    row.offset = input_->offset();
    row.line = line_ + 1;
    if (input_->data().front() != '{') {
      return absl::InvalidArgumentError(
          absl::StrFormat("%sno JSON: want an array of objects, or objects one after the other",
                          At(input_->name(), line_ + 1)));
    }
    size_t at = 0;
    int64_t depth = 0;
    bool in_string = false;
    while (true) {
      const std::string_view data = input_->data();
      const bool ended = ScanValue(data, at, depth, in_string);
      if (TooLong(at)) return PassValue(row, at, depth, in_string, ended);
      if (ended) {
        row_ = data.substr(0, at);
        row_bytes_ = at;
        row_lines_ = std::count(row_.begin(), row_.end(), '\n');
        return true;
      }
      if (at_end_) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "%sno JSON: the object that begins here has no end; the file was cut short, make it again",
            At(input_->name(), row.line)));
      }
      BDH_RETURN_IF_ERROR(Fill());
    }
  }

 private:
  // True at the value's end. A string may go on behind the data: `at` never stands within an escape.
  static bool ScanValue(std::string_view data, size_t& at, int64_t& depth, bool& in_string) {
    const char* const end = data.data() + data.size();
    const char* p = data.data() + at;
    const auto stop = [&](bool ended) {
      at = static_cast<size_t>(p - data.data());
      return ended;
    };
    while (p < end) {
      if (in_string) {
        p = FindAny<'"', '\\'>(p, end);
        if (p == end) break;
        if (*p == '\\') {
          if (end - p < 2) break;
          p += 2;
          continue;
        }
        in_string = false;
        ++p;
        continue;
      }
      const char c = *p++;
      if (c == '"') in_string = true;
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && --depth == 0) return stop(true);
    }
    return stop(false);
  }

  // `at` bytes of it were scanned.
  absl::StatusOr<bool> PassValue(Row& row, size_t at, int64_t depth, bool in_string, bool ended) {
    if (!options_.drop_too_long) return TooLongError(At(input_->name(), row.line), "the object", options_);
    row.too_long = true;
    while (true) {
      const std::string_view gone = input_->data().substr(0, at);
      line_ += std::count(gone.begin(), gone.end(), '\n');
      input_->Consume(at);
      if (ended) return true;
      if (at_end_) {
        return absl::InvalidArgumentError(absl::StrFormat("%sno JSON: the object that begins here has no end",
                                                          At(input_->name(), row.line)));
      }
      BDH_RETURN_IF_ERROR(Fill());
      at = 0;
      ended = ScanValue(input_->data(), at, depth, in_string);
    }
  }

  // False: there is none.
  absl::StatusOr<bool> PassToValue() {
    while (true) {
      const std::string_view data = input_->data();
      size_t at = 0;
      if (input_->offset() == 0 && data.substr(0, 3) == "\xef\xbb\xbf") at = 3;
      for (; at < data.size(); ++at) {
        const char c = data[at];
        if (c == '\n') {
          ++line_;
        } else if (c == '[' && !started_) {
          in_array_ = true;
        } else if (c == ',' && in_array_ && started_ && !after_comma_) {
          after_comma_ = true;
          continue;
        } else if (c == ']' && in_array_) {
          in_array_ = false;
          ended_ = true;
        } else if (c != ' ' && c != '\t' && c != '\r') {
          break;
        }
        if (c == '[') started_ = true, after_comma_ = true;
      }
      input_->Consume(at);
      if (!input_->data().empty()) break;
      if (at_end_) {
        if (!in_array_) return false;
        return absl::InvalidArgumentError(
            absl::StrFormat("%sno JSON: the array has no end; the file was cut short, make it again",
                            At(input_->name(), line_ + 1)));
      }
      BDH_RETURN_IF_ERROR(Fill());
    }
    if (ended_ || (in_array_ && !after_comma_ && !restarted_)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%sno JSON: want ',' or ']' between objects", At(input_->name(), line_ + 1)));
    }
    started_ = true;
    after_comma_ = restarted_ = false;
    return true;
  }

  bool started_ = false;
  bool in_array_ = false;
  bool after_comma_ = false;
  bool ended_ = false;
  bool restarted_ = false;
};

}  // namespace

std::unique_ptr<Reader> NewJsonLinesReader(std::unique_ptr<Input> input, const Options& options) {
  return std::make_unique<JsonLinesReader>(std::move(input), options);
}

std::unique_ptr<Reader> NewJsonReader(std::unique_ptr<Input> input, const Options& options) {
  return std::make_unique<JsonReader>(std::move(input), options);
}

}  // namespace bdh::documents
