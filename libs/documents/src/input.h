// The bytes of one file or stream, decompressed, with as much look-ahead as its reader asks for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/documents/document_source.h"

namespace bdh::documents {

// "file:line: " before a message.
std::string At(std::string_view name, int64_t line);

class Input {
 public:
  // FailedPreconditionError: the file is not what it was when it was listed.
  static absl::StatusOr<std::unique_ptr<Input>> OpenFile(const SourceFile& file);
  static absl::StatusOr<std::unique_ptr<Input>> FromStream(NamedStream stream);
  ~Input();

  const std::string& name() const { return name_; }

  // Bytes that are here, from offset() on. Valid until the next Fill, Consume or Seek.
  std::string_view data() const { return std::string_view(buffer_).substr(begin_); }
  int64_t offset() const { return offset_; }
  // Gets more behind them. False: there are no more. DataLossError: what is compressed is damaged or cut
  // short.
  absl::StatusOr<bool> Fill();
  void Consume(size_t count);

  // Whether Seek is possible: a file that is not compressed.
  bool seekable() const { return seekable_; }
  // Makes `offset` of the file the next byte.
  absl::Status Seek(int64_t offset);

  // Writes all of it to a file in `folder` that goes with this object, and is seekable from then on.
  absl::Status Spool(const std::string& folder);

  // Of the file as it lies on disk, read so far.
  int64_t file_bytes() const;
  // Of a plain file, for who reads it anywhere, else -1.
  int descriptor() const;
  int64_t file_size() const { return file_size_; }

 private:
  class RawBytes;
  explicit Input(std::string name);
  absl::Status ChooseDecompressor();

  const std::string name_;
  std::unique_ptr<RawBytes> raw_;
  std::unique_ptr<ByteStream> decompressed_;  // Null: raw_ is it.
  bool seekable_ = false;
  int64_t file_size_ = -1;
  int64_t spooled_bytes_ = -1;  // What it was before it was spooled.
  std::string buffer_;
  size_t begin_ = 0;
  int64_t offset_ = 0;
};

// Decompress what `from` has; `name` is for messages. Members and frames that follow each other are one text.
std::unique_ptr<ByteStream> GunzipStream(ByteStream& from, std::string name);
std::unique_ptr<ByteStream> UnzstdStream(ByteStream& from, std::string name);

}  // namespace bdh::documents
