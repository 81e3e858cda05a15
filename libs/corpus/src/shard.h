// The file format of token shards and of the documents' index: a header of 64 bytes, then the elements,
// little-endian. The header, also little-endian:
//
//    0  char[8]   "BDHSHARD"
//    8  u32       version, 1
//   12  u32       bytes an element takes: 1, 2, 4 or 8
//   16  u64       elements
//   24  u8[32]    SHA-256 of the elements
//   56  u8[8]     zero
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/base/sha256.h"

namespace bdh::corpus {

inline constexpr int64_t kShardHeaderBytes = 64;

struct ShardSummary {
  int64_t elements = 0;
  int64_t size_bytes = 0;
  std::string sha256;  // Hex.
};

// Writes one shard. Until Finish() said OK the file is not a shard: its header is still zero.
class ShardWriter {
 public:
  static absl::StatusOr<std::unique_ptr<ShardWriter>> Create(const std::string& path, int element_bytes);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // Goes on with a file that a writer left at Sync(), which said `elements` and `sha256`. What came later is
  // cut off. DataLossError: what is left is not that.
  static absl::StatusOr<std::unique_ptr<ShardWriter>> Resume(const std::string& path, int element_bytes,
                                                             int64_t elements, const std::string& sha256);

  // Whole elements, as they are stored.
  absl::Status Append(std::string_view bytes);
  int64_t elements() const { return bytes_ / element_bytes_; }
  // Makes what was appended durable, and answers what Resume needs.
  absl::StatusOr<ShardSummary> Sync();
  // Writes the header and syncs.
  absl::StatusOr<ShardSummary> Finish();

 private:
  ShardWriter(std::string path, int element_bytes, int descriptor)
      : path_(std::move(path)), element_bytes_(element_bytes), descriptor_(descriptor) {}
  absl::Status Write(std::string_view bytes, int64_t offset);
  absl::Status WriteBuffered();

  const std::string path_;
  const int element_bytes_;
  int descriptor_;
  Sha256 sha256_;
  std::string buffer_;
  int64_t bytes_ = 0, written_ = 0;
};

// A shard for reading, mapped until destruction.
struct MappedShard {
  // Checks header and size against what the manifest says. DataLossError names the file.
  static absl::StatusOr<std::unique_ptr<MappedShard>> Open(const std::string& path, int element_bytes,
                                                           int64_t elements, const std::string& sha256);
  ~MappedShard();

  // Reads everything. `progress` may be null; it hears how many bytes were read, and ends it with an error.
  absl::Status Verify(const std::function<absl::Status(int64_t bytes)>& progress) const;

  std::string path, sha256;
  const char* map = nullptr;
  int64_t map_bytes = 0;
  const char* data = nullptr;  // The first element.
  int64_t elements = 0;
};

}  // namespace bdh::corpus
