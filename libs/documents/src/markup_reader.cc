// A markdown or HTML file is one document, held whole while its marks are taken out.
#include <utility>

#include "bdh/base/status_macros.h"
#include "markup.h"
#include "reader.h"

namespace bdh::documents {
namespace {

class MarkupReader : public RowReader {
 public:
  MarkupReader(std::unique_ptr<Input> input, const Options& options, Format format)
      : input_(std::move(input)), options_(options), format_(format) {}

  absl::StatusOr<bool> Next(Row& row) override {
    if (std::exchange(done_, true)) return false;
    row.line = 1;
    while (true) {
      BDH_ASSIGN_OR_RETURN(const bool more, input_->Fill());
      if (!more) break;
      if (static_cast<int64_t>(input_->data().size()) <= options_.max_document_bytes) continue;
      if (!options_.drop_too_long) return TooLongError(input_->name() + ": ", "the file", options_);
      row.too_long = true;
      return true;
    }
    stripped_ = format_ == Format::kHtml ? StripHtml(input_->data()) : StripMarkdown(input_->data());
    text_ = stripped_;
    input_->Consume(input_->data().size());
    return true;
  }

  absl::Status SkipTo(const Position& position) override { return SkipRows(*this, position.row); }
  int64_t offset() const override { return input_->offset(); }
  int64_t line() const override { return 0; }
  int64_t file_bytes() const override { return input_->file_bytes(); }
  int64_t format_bytes() const override { return input_->offset() - static_cast<int64_t>(stripped_.size()); }

 private:
  const std::unique_ptr<Input> input_;
  const Options& options_;
  const Format format_;
  bool done_ = false;
  std::string stripped_;
};

}  // namespace

std::unique_ptr<Reader> NewMarkupReader(std::unique_ptr<Input> input, const Options& options, Format format) {
  return std::make_unique<MarkupReader>(std::move(input), options, format);
}

}  // namespace bdh::documents
