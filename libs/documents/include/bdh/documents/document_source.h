// Documents out of files: text, JSON lines, JSON arrays, csv, tsv, parquet, markdown and HTML, plain or
// behind gzip or zstd.
//
//   BDH_ASSIGN_OR_RETURN(const SourceList list, ListSources({"/srv/corpus"}));
//   BDH_ASSIGN_OR_RETURN(const auto source, DocumentSource::Open(list.files, options));
//   while (true) {
//     BDH_ASSIGN_OR_RETURN(const Document* document, source->Next());
//     if (document == nullptr) break;
//     while (true) {
//       BDH_ASSIGN_OR_RETURN(const std::string_view text, source->Read());
//       if (text.empty()) break;
//       ...
//     }
//   }
//   source->report();
//
// The order is that of the files, and of the rows in each. Memory is bounded: a few MiB, plus three times the
// longest row (Options::max_document_bytes; of parquet, the largest page), plus the hashes of dedupe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/documents/options.h"
#include "bdh/documents/report.h"
#include "bdh/documents/source_files.h"

namespace bdh::documents {

// Before which document reading may begin again: what is kept to resume.
struct Position {
  int64_t file = 0;  // Index into the list of files.
  int64_t row = 0;   // Documents of that file before it, dropped ones included.
  // Where the row begins in the file, decompressed, to seek in plain files; -1: not known.
  int64_t offset = 0;
  int64_t line = 0;  // Line ends before it, for messages.
  bool operator==(const Position&) const = default;
};

struct Document {
  std::string name;             // "books/a.jsonl:17": file and line, or file and row of a parquet file.
  Position position;            // Of this document.
  std::optional<double> score;  // Of Options::score_column; unset too where the row has none.
  int64_t known_bytes = -1;     // Length of its text if that is known before it is read, else -1.
};

// Bytes that come from elsewhere than a file, such as a network stream.
class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // The next bytes, valid until the next call. Empty: the end.
  virtual absl::StatusOr<std::string_view> Read() = 0;
};

struct NamedStream {
  std::string name;  // Its ending says the format, if it has one that we know.
  std::unique_ptr<ByteStream> bytes;
};

// One thread at a time.
class DocumentSource {
 public:
  // Reads files one after the other. A file that is not what it was when it was listed is refused.
  // `prepare` may be null; it is called before a file is opened, makes it be there, and says where it lies.
  using Prepare = std::function<absl::Status(size_t index, SourceFile& file)>;
  static absl::StatusOr<std::unique_ptr<DocumentSource>> Open(std::vector<SourceFile> files, Options options,
                                                              const Position& from = {},
                                                              Prepare prepare = nullptr);
  // Reads what `next` returns until it returns nothing. Compression is found by content.
  static absl::StatusOr<std::unique_ptr<DocumentSource>> OpenStreams(
      std::function<absl::StatusOr<std::optional<NamedStream>>()> next, Options options);
  virtual ~DocumentSource() = default;

  // Goes to the next document that the filters keep; what was not read of the one before is passed over, and
  // counts as kept. Null: there is none. The document is valid until the next call.
  // InvalidArgumentError and DataLossError name the file, the line or row, and the remedy. After an error the
  // source is of no more use.
  virtual absl::StatusOr<const Document*> Next() = 0;

  // The next piece of the document's text, valid until the next call of any function: at most kPieceBytes,
  // and no character of UTF-8 is cut by its end. Empty: the document's end.
  virtual absl::StatusOr<std::string_view> Read() = 0;
  static constexpr size_t kPieceBytes = size_t{1} << 20;

  // Where the document after the current one begins. With dedupe, opening there reads again what lies before,
  // to know what has been.
  virtual Position next_position() const = 0;

  // So far. Complete when Next() has returned null.
  virtual const Report& report() const = 0;

 protected:
  DocumentSource() = default;
};

}  // namespace bdh::documents
