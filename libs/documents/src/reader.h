// What each format is read by: one file's documents, as they stand there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/documents/document_source.h"
#include "input.h"

namespace bdh::documents {

struct Row {
  int64_t line = 0;    // Where it begins, or its number in a parquet file; from 1.
  int64_t offset = 0;  // Where it begins in the decompressed file.
  bool null = false;   // It has no text.
  bool too_long = false;
  std::optional<double> score = {};
};

class Reader {
 public:
  virtual ~Reader() = default;
  // Goes to the next document. False: there is none. What was not read of the one before is passed over.
  virtual absl::StatusOr<bool> Next(Row& row) = 0;
  // The next piece of its text, valid until the next call. Empty: its end.
  virtual absl::StatusOr<std::string_view> Read() = 0;
  // Goes to where a row begins; called before Next.
  virtual absl::Status SkipTo(const Position& position) = 0;
  // Where the next row begins, known once the text of the current one is read.
  virtual int64_t offset() const = 0;
  virtual int64_t line() const = 0;
  // Of the file as it lies on disk, read so far; decompressed, and -1 where that makes no sense.
  virtual int64_t file_bytes() const = 0;
  virtual int64_t format_bytes() const = 0;
};

// A reader of rows that are in memory when they are there.
class RowReader : public Reader {
 public:
  absl::StatusOr<std::string_view> Read() override { return std::exchange(text_, std::string_view()); }

 protected:
  std::string_view text_;  // Of the current row.
};

// `options` outlive the reader.
std::unique_ptr<Reader> NewTextReader(std::unique_ptr<Input> input, const Options& options);
std::unique_ptr<Reader> NewJsonLinesReader(std::unique_ptr<Input> input, const Options& options);
std::unique_ptr<Reader> NewJsonReader(std::unique_ptr<Input> input, const Options& options);
std::unique_ptr<Reader> NewCsvReader(std::unique_ptr<Input> input, const Options& options, char delimiter);
std::unique_ptr<Reader> NewMarkupReader(std::unique_ptr<Input> input, const Options& options, Format format);
absl::StatusOr<std::unique_ptr<Reader>> NewParquetReader(std::unique_ptr<Input> input,
                                                         const Options& options);

// The refusal of a row or document over max_document_bytes; `where` is "file:line: ".
absl::Status TooLongError(std::string_view where, std::string_view what, const Options& options);

// Skips rows by reading them, for what cannot be sought in.
absl::Status SkipRows(Reader& reader, int64_t rows);

}  // namespace bdh::documents
