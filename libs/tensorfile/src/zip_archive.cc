#include "zip_archive.h"

#include <zlib.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "little_endian.h"

namespace bdh::tensorfile {
namespace {

constexpr std::string_view kEndMark("PK\5\6"), kEnd64Mark("PK\6\6"), kLocator64Mark("PK\6\7");
constexpr std::string_view kCentralMark("PK\1\2"), kLocalMark("PK\3\4");
constexpr size_t kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20, kCentralBytes = 46, kLocalBytes = 30;
constexpr size_t kMaxCommentBytes = 65535;
constexpr uint64_t kIn64 = 0xffffffff;  // A 32-bit field whose number stands in the 64-bit extra field.
constexpr uint16_t kExtra64 = 1;
constexpr uint64_t kEncrypted = 1;

absl::Status Broken(std::string_view complaint) {
  return absl::InvalidArgumentError(absl::StrFormat("zip archive: %s", complaint));
}

absl::Status EntryError(std::string_view name, std::string_view complaint) {
  const absl::string_view bytes(name.data(), name.size());
  return Broken(absl::StrFormat("entry %s %s", absl::CHexEscape(bytes), complaint));
}

// `size` bytes at `offset`, or nothing where the file does not have them.
std::optional<std::string_view> Slice(std::string_view file, uint64_t offset, uint64_t size) {
  if (offset > file.size() || size > file.size() - offset) return std::nullopt;
  return file.substr(offset, size);
}

uint64_t Field(std::string_view record, size_t offset, size_t size) {
  return LittleEndian(record.substr(offset, size));
}

// Where the list of entries is.
struct Directory {
  uint64_t entries = 0, offset = 0, size_bytes = 0;
};

absl::StatusOr<Directory> FindDirectory(std::string_view file) {
  const size_t tail_begin = file.size() - std::min(file.size(), kEndBytes + kMaxCommentBytes);
  const size_t found = file.rfind(kEndMark);
  if (found == std::string_view::npos || found < tail_begin || file.size() - found < kEndBytes) {
    return Broken("has no end record: cut short, or no zip file");
  }
  const std::string_view end = file.substr(found, kEndBytes);
  Directory directory{Field(end, 10, 2), Field(end, 16, 4), Field(end, 12, 4)};
  if (found < kLocator64Bytes) return directory;
  const std::string_view locator = file.substr(found - kLocator64Bytes, kLocator64Bytes);
  if (!locator.starts_with(kLocator64Mark)) return directory;
  const auto end64 = Slice(file, Field(locator, 8, 8), kEnd64Bytes);
  if (!end64 || !end64->starts_with(kEnd64Mark)) return Broken("has no 64-bit end record where it says");
  return Directory{Field(*end64, 32, 8), Field(*end64, 48, 8), Field(*end64, 40, 8)};
}

// One line of the directory.
struct Listed {
  std::string name;
  uint64_t method = 0, flags = 0, crc32 = 0, packed_bytes = 0, size_bytes = 0, local_offset = 0;
};

// Replaces the fields that did not fit into 32 bits; they stand in the extra field in this order.
absl::Status TakeLargeFields(std::string_view extra, Listed& listed) {
  while (extra.size() >= 4) {
    const uint64_t id = Field(extra, 0, 2), size = Field(extra, 2, 2);
    extra.remove_prefix(4);
    if (size > extra.size()) return EntryError(listed.name, "has an extra field that is cut short");
    std::string_view fields = extra.substr(0, size);
    extra.remove_prefix(size);
    if (id != kExtra64) continue;
    for (uint64_t* number : {&listed.size_bytes, &listed.packed_bytes, &listed.local_offset}) {
      if (*number != kIn64) continue;
      if (fields.size() < 8) return EntryError(listed.name, "has a 64-bit extra field that is cut short");
      *number = Field(fields, 0, 8);
      fields.remove_prefix(8);
    }
  }
  return absl::OkStatus();
}

// Takes one line from the front of `directory`.
absl::StatusOr<Listed> TakeLine(std::string_view& directory) {
  if (directory.size() < kCentralBytes || !directory.starts_with(kCentralMark)) {
    return Broken("has a directory that is cut short or damaged");
  }
  const std::string_view fixed = directory.substr(0, kCentralBytes);
  const uint64_t name_bytes = Field(fixed, 28, 2), extra_bytes = Field(fixed, 30, 2);
  const uint64_t total = kCentralBytes + name_bytes + extra_bytes + Field(fixed, 32, 2);
  if (total > directory.size()) return Broken("has a directory that is cut short");
  Listed listed{.name = std::string(directory.substr(kCentralBytes, name_bytes)),
                .method = Field(fixed, 10, 2),
                .flags = Field(fixed, 8, 2),
                .crc32 = Field(fixed, 16, 4),
                .packed_bytes = Field(fixed, 20, 4),
                .size_bytes = Field(fixed, 24, 4),
                .local_offset = Field(fixed, 42, 4)};
  BDH_RETURN_IF_ERROR(TakeLargeFields(directory.substr(kCentralBytes + name_bytes, extra_bytes), listed));
  directory.remove_prefix(total);
  return listed;
}

absl::StatusOr<std::string_view> BytesOf(std::string_view file, const Listed& listed) {
  if (listed.flags & kEncrypted) return EntryError(listed.name, "is encrypted");
  if (listed.method != 0 || listed.packed_bytes != listed.size_bytes) {
    return EntryError(listed.name,
                      absl::StrFormat("is compressed (method %d, %d bytes from %d); torch.save stores "
                                      "entries as they are, so this file is not from there",
                                      listed.method, listed.size_bytes, listed.packed_bytes));
  }
  const auto local = Slice(file, listed.local_offset, kLocalBytes);
  if (!local || !local->starts_with(kLocalMark)) {
    return EntryError(listed.name, "is not where the directory says: cut short, or damaged");
  }
  const uint64_t begin = listed.local_offset + kLocalBytes + Field(*local, 26, 2) + Field(*local, 28, 2);
  const auto bytes = Slice(file, begin, listed.size_bytes);
  if (!bytes) {
    return EntryError(listed.name, absl::StrFormat("claims %d bytes at %d; the file has %d: cut short, or "
                                                   "it lies about its size",
                                                   listed.size_bytes, begin, file.size()));
  }
  return *bytes;
}

// Entries that share bytes are how a small file claims to hold a large one.
absl::Status CheckApart(const std::map<std::string, ZipArchive::Entry, std::less<>>& entries) {
  std::vector<std::pair<std::string_view, std::string_view>> by_place;
  for (const auto& [name, entry] : entries) {
    if (!entry.bytes.empty()) by_place.emplace_back(entry.bytes, name);
  }
  std::sort(by_place.begin(), by_place.end(),
            [](const auto& a, const auto& b) { return a.first.data() < b.first.data(); });
  for (size_t i = 1; i < by_place.size(); ++i) {
    const std::string_view before = by_place[i - 1].first;
    if (before.data() + before.size() > by_place[i].first.data()) {
      return EntryError(by_place[i].second, "lies inside another entry");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ZipArchive> ZipArchive::Read(std::string_view file) {
  BDH_ASSIGN_OR_RETURN(const Directory directory, FindDirectory(file));
  const auto lines = Slice(file, directory.offset, directory.size_bytes);
  if (!lines) return Broken("has a directory outside the file: cut short, or damaged");
  if (directory.entries > kMaxZipEntries) {
    return Broken(absl::StrFormat("has %d entries; want at most %d", directory.entries, kMaxZipEntries));
  }
  ZipArchive archive;
  std::string_view rest = *lines;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    BDH_ASSIGN_OR_RETURN(const Listed listed, TakeLine(rest));
    BDH_ASSIGN_OR_RETURN(const std::string_view bytes, BytesOf(file, listed));
    const Entry entry{bytes, static_cast<uint32_t>(listed.crc32)};
    if (!archive.entries_.emplace(listed.name, entry).second) {
      return EntryError(listed.name, "is there twice");
    }
  }
  BDH_RETURN_IF_ERROR(CheckApart(archive.entries_));
  return archive;
}

absl::StatusOr<std::string_view> ZipArchive::Checked(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return absl::NotFoundError(absl::StrFormat("there is no entry %s", name));
  const std::string_view bytes = found->second.bytes;
  const uLong got = crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  if (got == found->second.crc32) return bytes;
  return absl::DataLossError(absl::StrFormat("entry %s is damaged: its CRC-32 is %08x, the archive says %08x",
                                             name, got, found->second.crc32));
}

}  // namespace bdh::tensorfile
