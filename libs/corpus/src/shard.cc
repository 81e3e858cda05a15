#include "shard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"

namespace bdh::corpus {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are mapped as they are");

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr uint32_t kVersion = 1;

struct Header {
  char magic[8] = {'B', 'D', 'H', 'S', 'H', 'A', 'R', 'D'};
  uint32_t version = kVersion;
  uint32_t element_bytes = 0;
  uint64_t elements = 0;
  unsigned char sha256[32] = {};
  unsigned char zero[8] = {};
};
static_assert(sizeof(Header) == kShardHeaderBytes);

absl::Status Damaged(const std::string& path, std::string_view what) {
  return absl::DataLossError(
      absl::StrFormat("%s %s; restore the file, or delete the data set and add its text again", path, what));
}

absl::Status CheckHeader(const Header& header, const std::string& path, int element_bytes, int64_t elements,
                         const std::string& sha256) {
  if (std::memcmp(header.magic, Header().magic, sizeof(header.magic)) != 0) {
    return Damaged(path, "is not a shard: it does not begin with BDHSHARD");
  }
  if (header.version > kVersion) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s has shard format %d, this release reads up to %d: use the release that wrote it, or newer", path,
        header.version, kVersion));
  }
  if (header.element_bytes != static_cast<uint32_t>(element_bytes)) {
    return Damaged(path, absl::StrFormat("has %d bytes an element, the manifest says %d",
                                         header.element_bytes, element_bytes));
  }
  if (header.elements != static_cast<uint64_t>(elements)) {
    return Damaged(path, absl::StrFormat("has %d elements, the manifest says %d", header.elements, elements));
  }
  const std::string recorded =
      absl::BytesToHexString({reinterpret_cast<const char*>(header.sha256), sizeof(header.sha256)});
  if (recorded != sha256) return Damaged(path, "carries another checksum than the manifest");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ShardWriter>> ShardWriter::Create(const std::string& path, int element_bytes) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("create %s", path));
  auto writer = std::unique_ptr<ShardWriter>(new ShardWriter(path, element_bytes, descriptor));
  const std::string unfinished(kShardHeaderBytes, '\0');
  BDH_RETURN_IF_ERROR(writer->Write(unfinished, 0));
  return writer;
}

absl::StatusOr<std::unique_ptr<ShardWriter>> ShardWriter::Resume(const std::string& path, int element_bytes,
                                                                 int64_t elements,
                                                                 const std::string& sha256) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  auto writer = std::unique_ptr<ShardWriter>(new ShardWriter(path, element_bytes, descriptor));
  const int64_t bytes = elements * element_bytes;
  std::string buffer;
  while (writer->bytes_ < bytes) {
    buffer.resize(static_cast<size_t>(std::min<int64_t>(bytes - writer->bytes_, kBufferBytes)));
    const ssize_t got = pread(descriptor, buffer.data(), buffer.size(), kShardHeaderBytes + writer->bytes_);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Damaged(path, "is shorter than it was");
    writer->sha256_.Update(std::string_view(buffer).substr(0, static_cast<size_t>(got)));
    writer->bytes_ += got;
  }
  writer->written_ = bytes;
  if (writer->sha256_.Peek().Hex() != sha256) return Damaged(path, "is not what was written");
  if (ftruncate(descriptor, kShardHeaderBytes + bytes) != 0) {
    return ErrnoStatus(errno, absl::StrFormat("cut %s", path));
  }
  return writer;
}

absl::StatusOr<ShardSummary> ShardWriter::Sync() {
  BDH_RETURN_IF_ERROR(WriteBuffered());
  if (fdatasync(descriptor_) != 0) return ErrnoStatus(errno, absl::StrFormat("sync %s", path_));
  return ShardSummary{elements(), kShardHeaderBytes + bytes_, sha256_.Peek().Hex()};
}

ShardWriter::~ShardWriter() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status ShardWriter::Append(std::string_view bytes) {
  bytes_ += static_cast<int64_t>(bytes.size());
  buffer_.append(bytes);
  return buffer_.size() >= kBufferBytes ? WriteBuffered() : absl::OkStatus();
}

absl::Status ShardWriter::WriteBuffered() {
  sha256_.Update(buffer_);
  BDH_RETURN_IF_ERROR(Write(buffer_, kShardHeaderBytes + written_));
  written_ += static_cast<int64_t>(buffer_.size());
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status ShardWriter::Write(std::string_view bytes, int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus(errno, absl::StrFormat("write %s", path_));
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += written;
  }
  return absl::OkStatus();
}

absl::StatusOr<ShardSummary> ShardWriter::Finish() {
  BDH_CHECK(bytes_ % element_bytes_ == 0);
  BDH_RETURN_IF_ERROR(WriteBuffered());
  const Sha256Digest digest = sha256_.Finish();
  Header header;
  header.element_bytes = static_cast<uint32_t>(element_bytes_);
  header.elements = static_cast<uint64_t>(elements());
  std::memcpy(header.sha256, digest.bytes.data(), sizeof(header.sha256));
  BDH_RETURN_IF_ERROR(Write({reinterpret_cast<const char*>(&header), sizeof(header)}, 0));
  if (fsync(descriptor_) != 0) return ErrnoStatus(errno, absl::StrFormat("sync %s", path_));
  // Some file systems report a failed write only here.
  if (close(std::exchange(descriptor_, -1)) != 0)
    return ErrnoStatus(errno, absl::StrFormat("close %s", path_));
  return ShardSummary{elements(), kShardHeaderBytes + bytes_, digest.Hex()};
}

absl::StatusOr<std::unique_ptr<MappedShard>> MappedShard::Open(const std::string& path, int element_bytes,
                                                               int64_t elements, const std::string& sha256) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 && errno == ENOENT) return Damaged(path, "is missing");
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  const absl::Cleanup closer = [&] { close(descriptor); };
  struct stat status = {};
  if (fstat(descriptor, &status) != 0) return ErrnoStatus(errno, absl::StrFormat("stat %s", path));
  const int64_t want = kShardHeaderBytes + elements * element_bytes;
  if (status.st_size != want) {
    return Damaged(path, absl::StrFormat("is %d bytes long, the manifest says %d", status.st_size, want));
  }
  void* const map = mmap(nullptr, static_cast<size_t>(want), PROT_READ, MAP_SHARED, descriptor, 0);
  if (map == MAP_FAILED) return ErrnoStatus(errno, absl::StrFormat("map %s", path));
  auto shard = std::make_unique<MappedShard>();
  shard->path = path;
  shard->sha256 = sha256;
  shard->map = static_cast<const char*>(map);
  shard->map_bytes = want;
  shard->data = shard->map + kShardHeaderBytes;
  shard->elements = elements;
  Header header;
  std::memcpy(&header, shard->map, sizeof(header));
  BDH_RETURN_IF_ERROR(CheckHeader(header, path, element_bytes, elements, sha256));
  return shard;
}

MappedShard::~MappedShard() {
  if (map != nullptr) munmap(const_cast<char*>(map), static_cast<size_t>(map_bytes));
}

absl::Status MappedShard::Verify(const std::function<absl::Status(int64_t)>& progress) const {
  Sha256 hash;
  constexpr int64_t kPiece = int64_t{16} << 20;
  for (int64_t at = 0; at < map_bytes - kShardHeaderBytes; at += kPiece) {
    const int64_t bytes = std::min(kPiece, map_bytes - kShardHeaderBytes - at);
    hash.Update({data + at, static_cast<size_t>(bytes)});
    if (progress != nullptr) BDH_RETURN_IF_ERROR(progress(bytes));
  }
  if (hash.Finish().Hex() != sha256) return Damaged(path, "is damaged: its checksum differs");
  return absl::OkStatus();
}

}  // namespace bdh::corpus
