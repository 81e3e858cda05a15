// The zip archives that torch.save writes: entries stored as they are, never compressed. So an archive holds
// no more than its file has bytes, and every entry is a view of the file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::tensorfile {

inline constexpr uint64_t kMaxZipEntries = 1 << 17;

class ZipArchive {
 public:
  // `file` outlives this object. InvalidArgumentError says what is wrong and with which entry: compressed or
  // encrypted, named twice, outside the file, inside another entry.
  static absl::StatusOr<ZipArchive> Read(std::string_view file);

  // The names and bytes of all entries, not yet compared with their checksums.
  struct Entry {
    std::string_view bytes;
    uint32_t crc32 = 0;
  };
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }

  // The bytes of an entry, after comparing them with its checksum. NotFoundError; DataLossError.
  absl::StatusOr<std::string_view> Checked(std::string_view name) const;

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace bdh::tensorfile
