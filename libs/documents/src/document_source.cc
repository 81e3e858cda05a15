#include "bdh/documents/document_source.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "cleaner.h"
#include "input.h"
#include "known_names.h"
#include "reader.h"

namespace bdh::documents {
namespace {

// What was there before.
class Seen {
 public:
  // ResourceExhaustedError: more than `max`.
  absl::StatusOr<bool> Insert(std::string_view text, int64_t max) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
    Key key;
    std::memcpy(key.data(), digest, sizeof key);
    if (!keys_.insert(key).second) return false;
    if (static_cast<int64_t>(keys_.size()) <= max) return true;
    return absl::ResourceExhaustedError(
        absl::StrFormat("there are more than %d different documents, which is dedupe_documents_max; raise it "
                        "where there is memory "
                        "(about 40 bytes each), or do without dedupe",
                        max));
  }

 private:
  using Key = std::array<uint64_t, 2>;
  absl::flat_hash_set<Key> keys_;
};

class Source : public DocumentSource {
 public:
  Source(std::vector<SourceFile> files, Options options, Prepare prepare)
      : files_(std::move(files)),
        prepare_(std::move(prepare)),
        options_(std::move(options)),
        cleaner_(options_) {}
  Source(std::function<absl::StatusOr<std::optional<NamedStream>>()> next, Options options)
      : next_stream_(std::move(next)), options_(std::move(options)), cleaner_(options_) {}

  absl::Status Start(const Position& from) {
    if (from.file < 0 || from.row < 0 || from.file > static_cast<int64_t>(files_.size())) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "the position is in file %d of %d: it is of another data set", from.file, files_.size()));
    }
    if (options_.dedupe) {
      if (from.file > 0 || from.row > 0) until_ = from;
      return absl::OkStatus();
    }
    position_ = {.file = from.file};
    if (from.row > 0) {
      BDH_RETURN_IF_ERROR(OpenNext().status());
      BDH_RETURN_IF_ERROR(reader_->SkipTo(from));
      position_ = from;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<const Document*> Next() override {
    BDH_RETURN_IF_ERROR(FinishDocument());
    while (true) {
      BDH_ASSIGN_OR_RETURN(const bool there, NextRow());
      if (!there) return nullptr;
      if (until_ && !Before(document_.position, *until_)) ForgetRowsBefore();
      BDH_ASSIGN_OR_RETURN(const std::optional<Drop> drop, Judge());
      if (drop) {
        BDH_RETURN_IF_ERROR(PassRow(*drop));
        continue;
      }
      Each([](Tally& tally) { ++tally.kept.documents; });
      if (until_) {
        // It was handed on before; it counts for dedupe alone.
        BDH_RETURN_IF_ERROR(FinishDocument());
        continue;
      }
      return &document_;
    }
  }

  absl::StatusOr<std::string_view> Read() override {
    if (!in_document_) return std::string_view();
    // Moved only when what is left is less than what is gone, for a document may be long.
    if (given_ > text_.size() / 2) text_.erase(0, std::exchange(given_, 0));
    BDH_RETURN_IF_ERROR(FillText(given_ + kPieceBytes));
    const std::string_view left = std::string_view(text_).substr(given_);
    size_t size = std::min(left.size(), kPieceBytes);
    if (size < left.size() || !row_ended_) size -= CutCharacterBytes(left.substr(0, size));
    if (left.empty()) EndDocument();
    given_ += size;
    kept_bytes_ += static_cast<int64_t>(size);
    Each([&](Tally& tally) { tally.kept.bytes += static_cast<int64_t>(size); });
    return left.substr(0, size);
  }

  Position next_position() const override {
    if (reader_ == nullptr) return position_;
    Position next = position_;
    if (in_row_ && !row_ended_) {
      next.offset = -1;
    } else {
      next.offset = reader_->offset();
      next.line = reader_->line();
    }
    return next;
  }

  const Report& report() const override { return report_; }

 private:
  static bool Before(const Position& a, const Position& b) {
    return a.file != b.file ? a.file < b.file : a.row < b.row;
  }

  template <class Change>
  void Each(Change change) {
    change(report_.total);
    change(*tally_);
  }

  // The row at hand is the first that counts.
  void ForgetRowsBefore() {
    until_.reset();
    const std::string name = report_.sources.empty() ? "" : report_.sources.back().name;
    report_ = Report();
    BeginTally(name);
    CountBytes();
    Each([&](Tally& tally) { tally.in.documents = 1; });
  }

  void BeginTally(std::string name) {
    file_bytes_ = format_bytes_ = 0;
    if (report_.sources.size() < Report::kSourcesNamed) {
      // No reference to an older one is kept.
      tally_ = &report_.sources.emplace_back(SourceTally{std::move(name), {}}).tally;
    } else {
      ++report_.unnamed_sources;
      tally_ = &report_.unnamed;
    }
  }

  void CountBytes() {
    const int64_t file = reader_->file_bytes(), format = std::max<int64_t>(reader_->format_bytes(), 0);
    Each([&](Tally& tally) {
      tally.file_bytes += file - file_bytes_;
      tally.format_bytes += format - format_bytes_;
    });
    file_bytes_ = file;
    format_bytes_ = format;
  }

  // False: there is none.
  absl::StatusOr<bool> OpenNext() {
    std::unique_ptr<Input> input;
    if (next_stream_ != nullptr) {
      BDH_ASSIGN_OR_RETURN(std::optional<NamedStream> stream, next_stream_());
      if (!stream) return false;
      BDH_ASSIGN_OR_RETURN(input, Input::FromStream(std::move(*stream)));
    } else {
      if (position_.file >= static_cast<int64_t>(files_.size())) return false;
      const auto index = static_cast<size_t>(position_.file);
      if (prepare_ != nullptr) BDH_RETURN_IF_ERROR(prepare_(index, files_[index]));
      BDH_ASSIGN_OR_RETURN(input, Input::OpenFile(files_[index]));
    }
    BeginTally(input->name());
    BDH_ASSIGN_OR_RETURN(reader_, OpenReader(std::move(input)));
    return true;
  }

  absl::StatusOr<std::unique_ptr<Reader>> OpenReader(std::unique_ptr<Input> input) {
    name_ = input->name();
    format_ = options_.format != Format::kGuess ? options_.format : FormatOfName(name_);
    if (input->data().empty()) BDH_RETURN_IF_ERROR(input->Fill().status());
    if (format_ == Format::kGuess)
      format_ = input->data().substr(0, 4) == "PAR1" ? Format::kParquet : Format::kText;
    switch (format_) {
      case Format::kJsonLines:
        return NewJsonLinesReader(std::move(input), options_);
      case Format::kJson:
        return NewJsonReader(std::move(input), options_);
      case Format::kCsv:
        return NewCsvReader(std::move(input), options_, ',');
      case Format::kTsv:
        return NewCsvReader(std::move(input), options_, '\t');
      case Format::kMarkdown:
      case Format::kHtml:
        return NewMarkupReader(std::move(input), options_, format_);
      case Format::kParquet:
        return OpenParquet(std::move(input));
      default:
        return NewTextReader(std::move(input), options_);
    }
  }

  absl::StatusOr<std::unique_ptr<Reader>> OpenParquet(std::unique_ptr<Input> input) {
    if (input->data().empty()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s is empty and no parquet file; fetch it again", name_));
    }
    if (!input->seekable()) {
      if (options_.spool_folder.empty()) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%s is parquet, which cannot be read as a stream or behind a compression; give "
                            "it as a plain file",
                            name_));
      }
      BDH_RETURN_IF_ERROR(input->Spool(options_.spool_folder));
    }
    return NewParquetReader(std::move(input), options_);
  }

  absl::Status CloseFile() {
    CountBytes();
    reader_ = nullptr;
    if (next_stream_ == nullptr) {
      BDH_RETURN_IF_ERROR(CheckUnchanged(files_[static_cast<size_t>(position_.file)]));
    }
    position_ = {.file = position_.file + 1};
    return absl::OkStatus();
  }

  // Begins the next row of this or a later file.
  absl::StatusOr<bool> NextRow() {
    while (true) {
      if (reader_ == nullptr) {
        BDH_ASSIGN_OR_RETURN(const bool there, OpenNext());
        if (!there) return false;
      }
      row_ = Row();
      BDH_ASSIGN_OR_RETURN(const bool there, reader_->Next(row_));
      if (there) break;
      BDH_RETURN_IF_ERROR(CloseFile());
    }
    CountBytes();
    Each([](Tally& tally) { ++tally.in.documents; });
    document_.position = {position_.file, position_.row, row_.offset, row_.line - 1};
    ++position_.row;
    const bool one_document = format_ == Format::kMarkdown || format_ == Format::kHtml ||
                              (format_ == Format::kText && options_.split == TextSplit::kFile);
    document_.name = one_document ? name_ : absl::StrFormat("%s:%d", name_, row_.line);
    document_.score = row_.score;
    text_.clear();
    given_ = 0;
    row_bytes_ = kept_bytes_ = 0;
    in_document_ = in_row_ = true;
    row_ended_ = false;
    cleaner_.Begin();
    return true;
  }

  // Has at least `size` bytes of clean text, unless it ends before.
  absl::Status FillText(size_t size) {
    while (text_.size() < size && !row_ended_) {
      BDH_ASSIGN_OR_RETURN(const std::string_view piece, reader_->Read());
      row_bytes_ += static_cast<int64_t>(piece.size());
      Each([&](Tally& tally) { tally.in.bytes += static_cast<int64_t>(piece.size()); });
      const bool was_broken = cleaner_.broken();
      if (piece.empty()) {
        cleaner_.End(text_);
        row_ended_ = true;
        CountBytes();
      } else {
        cleaner_.Append(piece, text_);
      }
      if (cleaner_.broken() && !was_broken) BDH_RETURN_IF_ERROR(BrokenUtf8());
    }
    return absl::OkStatus();
  }

  absl::Status BrokenUtf8() {
    Each([](Tally& tally) { ++tally.broken_utf8; });
    if (options_.utf8 != Utf8Policy::kRefuse) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: there are bytes in it that are no UTF-8; convert it (iconv -t UTF-8), or choose another UTF-8 "
        "policy: repair, drop or keep",
        document_.name));
  }

  bool NeedsWhole() const {
    return options_.max_bytes > 0 || options_.min_word_share > 0 || options_.dedupe ||
           options_.utf8 == Utf8Policy::kDrop || !options_.must_contain.empty() ||
           !options_.must_not_contain.empty();
  }

  // Why it goes, if it goes.
  absl::StatusOr<std::optional<Drop>> Judge() {
    if (row_.too_long) return Drop::kTooLong;
    if (row_.null) return Drop::kNull;
    if (!NeedsWhole()) {
      BDH_RETURN_IF_ERROR(FillText(static_cast<size_t>(std::max<int64_t>(options_.min_bytes, 1))));
      document_.known_bytes = row_ended_ ? static_cast<int64_t>(text_.size()) : -1;
      return JudgeLength();
    }
    const int64_t limit = options_.max_bytes > 0 ? std::min(options_.max_bytes, options_.max_document_bytes)
                                                 : options_.max_document_bytes;
    BDH_RETURN_IF_ERROR(FillText(static_cast<size_t>(limit) + 1));
    if (static_cast<int64_t>(text_.size()) > limit) {
      if (limit == options_.max_bytes || options_.drop_too_long) return Drop::kTooLong;
      return TooLongError(document_.name + ": ", "the document", options_);
    }
    document_.known_bytes = static_cast<int64_t>(text_.size());
    return JudgeWhole();
  }

  std::optional<Drop> JudgeLength() const {
    if (text_.empty()) return Drop::kEmpty;
    if (static_cast<int64_t>(text_.size()) < options_.min_bytes) return Drop::kTooShort;
    return std::nullopt;
  }

  absl::StatusOr<std::optional<Drop>> JudgeWhole() {
    if (options_.utf8 == Utf8Policy::kDrop && cleaner_.broken()) return Drop::kBrokenUtf8;
    if (const auto drop = JudgeLength()) return drop;
    if (options_.min_word_share > 0 && WordShare() < options_.min_word_share) return Drop::kFewWords;
    const auto has = [&](const std::string& part) { return absl::StrContains(text_, part); };
    if (!std::all_of(options_.must_contain.begin(), options_.must_contain.end(), has) ||
        std::any_of(options_.must_not_contain.begin(), options_.must_not_contain.end(), has)) {
      return Drop::kContent;
    }
    if (!options_.dedupe) return std::nullopt;
    BDH_ASSIGN_OR_RETURN(const bool is_new, seen_.Insert(text_, options_.dedupe_documents_max));
    return is_new ? std::nullopt : std::optional<Drop>(Drop::kDuplicate);
  }

  double WordShare() const {
    const auto words = std::count_if(text_.begin(), text_.end(), [](char c) {
      const auto u = static_cast<unsigned char>(c);
      return u >= 0x80 || absl::ascii_isalnum(u);
    });
    return static_cast<double>(words) / static_cast<double>(text_.size());
  }

  // Reads the rest of a row that is not kept, to count it.
  absl::Status PassRow(Drop reason) {
    if (!row_.too_long && !row_.null) {
      while (!row_ended_) {
        text_.clear();
        BDH_RETURN_IF_ERROR(FillText(1));
      }
    }
    Each([&](Tally& tally) {
      ++tally[reason].documents;
      tally[reason].bytes += row_bytes_;
    });
    in_document_ = in_row_ = false;
    return absl::OkStatus();
  }

  absl::Status FinishDocument() {
    while (in_document_) BDH_RETURN_IF_ERROR(Read().status());
    in_row_ = false;
    return absl::OkStatus();
  }

  void EndDocument() {
    in_document_ = false;
    Each([&](Tally& tally) { tally.cleaned_bytes += row_bytes_ - kept_bytes_; });
  }

  std::vector<SourceFile> files_;
  const Prepare prepare_;
  const std::function<absl::StatusOr<std::optional<NamedStream>>()> next_stream_;
  const Options options_;

  // The file that is open.
  std::unique_ptr<Reader> reader_;
  std::string name_;
  Format format_ = Format::kText;
  Position position_;  // Of the next row; its offset and line are the reader's.
  std::optional<Position> until_;
  int64_t file_bytes_ = 0, format_bytes_ = 0;  // Counted already.

  // The row that is read.
  Row row_;
  Document document_;
  Cleaner cleaner_;
  Seen seen_;
  std::string text_;  // Clean, of which the first given_ bytes were handed on.
  size_t given_ = 0;
  bool in_row_ = false;
  bool in_document_ = false;  // Kept, and not read to its end.
  bool row_ended_ = false;
  int64_t row_bytes_ = 0, kept_bytes_ = 0;

  Report report_;
  Tally* tally_ = nullptr;  // In report_.
};

}  // namespace

absl::StatusOr<std::unique_ptr<DocumentSource>> DocumentSource::Open(std::vector<SourceFile> files,
                                                                     Options options, const Position& from,
                                                                     Prepare prepare) {
  BDH_RETURN_IF_ERROR(Check(options));
  auto source = std::make_unique<Source>(std::move(files), std::move(options), std::move(prepare));
  BDH_RETURN_IF_ERROR(source->Start(from));
  return source;
}

absl::StatusOr<std::unique_ptr<DocumentSource>> DocumentSource::OpenStreams(
    std::function<absl::StatusOr<std::optional<NamedStream>>()> next, Options options) {
  BDH_RETURN_IF_ERROR(Check(options));
  return std::make_unique<Source>(std::move(next), std::move(options));
}

}  // namespace bdh::documents
