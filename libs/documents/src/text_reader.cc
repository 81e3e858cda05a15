// Text as it stands, whole or cut at line ends, blank lines or a separator. Documents pass in pieces.
#include <algorithm>
#include <cstring>
#include <utility>

#include "bdh/base/status_macros.h"
#include "reader.h"

namespace bdh::documents {
namespace {

// Where a document ends in `text`, and how many bytes of separator follow; or how much of it is surely text.
struct Cut {
  bool found = false;
  size_t text = 0;
  size_t separator = 0;
};

Cut FindLineEnd(std::string_view text) {
  const size_t at = text.find('\n');
  if (at == std::string_view::npos) return {false, text.size(), 0};
  return {true, at, 1};
}

Cut FindSeparator(std::string_view text, std::string_view separator, bool at_end) {
  const size_t at = text.find(separator);
  if (at != std::string_view::npos) return {true, at, separator.size()};
  if (at_end) return {false, text.size(), 0};
  // The end may be the beginning of a separator.
  return {false, text.size() - std::min(text.size(), separator.size() - 1), 0};
}

// A line with nothing in it, CR apart. All that follow it belong to the separator.
Cut FindBlankLine(std::string_view text, bool at_end) {
  size_t from = 0;
  while (true) {
    const size_t at = text.find('\n', from);
    if (at == std::string_view::npos) return {false, text.size(), 0};
    size_t end = at + 1, line_ends = 1;
    while (end < text.size() && (text[end] == '\n' || text[end] == '\r'))
      line_ends += text[end++] == '\n' ? 1 : 0;
    const bool open = end == text.size() && !at_end;
    if (line_ends >= 2) return {true, at, end - at};
    if (open) return {false, at, 0};  // Not known yet.
    from = end;
  }
}

class TextReader : public Reader {
 public:
  TextReader(std::unique_ptr<Input> input, const Options& options)
      : input_(std::move(input)), split_(options.split), separator_(options.separator) {}

  absl::StatusOr<bool> Next(Row& row) override {
    while (in_document_) BDH_RETURN_IF_ERROR(Read().status());
    given_ = 0;
    if (input_->data().empty() && !at_end_) BDH_RETURN_IF_ERROR(Fill());
    // A file that is one document is one even if it is empty; behind the last separator nothing begins.
    const bool whole = split_ == TextSplit::kFile;
    if (whole ? documents_ > 0 : input_->data().empty()) return false;
    row.line = line_ + 1;
    row.offset = input_->offset();
    ++documents_;
    in_document_ = true;
    return true;
  }

  absl::StatusOr<std::string_view> Read() override {
    Consume(std::exchange(given_, 0));
    while (in_document_) {
      const Cut cut = Find();
      if (cut.text > 0) {
        given_ = std::min(cut.text, DocumentSource::kPieceBytes);
        text_bytes_ += static_cast<int64_t>(given_);
        return input_->data().substr(0, given_);
      }
      if (cut.found || at_end_) {
        Consume(cut.separator);
        in_document_ = false;
        if (cut.found && split_ == TextSplit::kBlankLine) BDH_RETURN_IF_ERROR(PassBlankLines());
      } else {
        BDH_RETURN_IF_ERROR(Fill());
      }
    }
    return std::string_view();
  }

  absl::Status SkipTo(const Position& position) override {
    if (!input_->seekable() || position.offset < 0) return SkipRows(*this, position.row);
    BDH_RETURN_IF_ERROR(input_->Seek(position.offset));
    at_end_ = false;
    line_ = position.line;
    documents_ = position.row;
    text_bytes_ = position.offset;
    return absl::OkStatus();
  }

  int64_t offset() const override { return input_->offset(); }
  int64_t line() const override { return line_; }
  int64_t file_bytes() const override { return input_->file_bytes(); }
  int64_t format_bytes() const override {
    return input_->offset() + static_cast<int64_t>(given_) - text_bytes_;
  }

 private:
  Cut Find() const {
    switch (split_) {
      case TextSplit::kFile:
        return {false, input_->data().size(), 0};
      case TextSplit::kLine:
        return FindLineEnd(input_->data());
      case TextSplit::kBlankLine:
        return FindBlankLine(input_->data(), at_end_);
      case TextSplit::kSeparator:
        return FindSeparator(input_->data(), separator_, at_end_);
    }
    return {};
  }

  absl::Status Fill() {
    BDH_ASSIGN_OR_RETURN(const bool more, input_->Fill());
    at_end_ = !more;
    return absl::OkStatus();
  }

  // However many there are, and wherever the input's pieces end among them.
  absl::Status PassBlankLines() {
    while (true) {
      const size_t count = std::min(input_->data().find_first_not_of("\r\n"), input_->data().size());
      Consume(count);
      if (!input_->data().empty() || at_end_) return absl::OkStatus();
      BDH_RETURN_IF_ERROR(Fill());
    }
  }

  void Consume(size_t count) {
    if (count == 0) return;
    const std::string_view gone = input_->data().substr(0, count);
    line_ += std::count(gone.begin(), gone.end(), '\n');
    input_->Consume(count);
  }

  const std::unique_ptr<Input> input_;
  const TextSplit split_;
  const std::string separator_;
  bool in_document_ = false;
  bool at_end_ = false;
  size_t given_ = 0;  // Bytes of the input that the caller looks at.
  int64_t documents_ = 0;
  int64_t line_ = 0;
  int64_t text_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Reader> NewTextReader(std::unique_ptr<Input> input, const Options& options) {
  return std::make_unique<TextReader>(std::move(input), options);
}

}  // namespace bdh::documents
