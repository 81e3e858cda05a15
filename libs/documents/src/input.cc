#include "input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "file_state.h"

namespace bdh::documents {
namespace {

constexpr size_t kReadBytes = size_t{256} << 10;
// What a long row made the buffer grow to is given back after it.
constexpr size_t kBufferBytesKept = size_t{8} << 20;

using namespace std::string_view_literals;

struct Magic {
  std::string_view bytes;
  std::string_view means;
};
// What is no text and no compression that we read: better refused than trained on.
constexpr Magic kForeign[] = {
    {"\xfd"
     "7zXZ\0"sv,
     "is compressed by xz; decompress it first (xz -d), or make it .zst or .gz"},
    {"PK\x03\x04"sv, "is a zip archive; unpack it first (unzip)"},
    {"\x04\x22\x4d\x18"sv, "is compressed by lz4; decompress it first (lz4 -d), or make it .zst or .gz"},
    {"7z\xbc\xaf\x27\x1c"sv, "is a 7z archive; unpack it first"},
    {"\xff\xfe"sv, "is UTF-16; make it UTF-8 first (iconv -f UTF-16 -t UTF-8)"},
    {"\xfe\xff"sv, "is UTF-16; make it UTF-8 first (iconv -f UTF-16 -t UTF-8)"},
};
constexpr std::string_view kBzip2 = "BZh"sv, kBzip2Block = "1AY&SY"sv;
constexpr std::string_view kGzip = "\x1f\x8b"sv, kZstd = "\x28\xb5\x2f\xfd"sv;
constexpr size_t kMagicBytes = 16;

absl::Status CheckForeign(std::string_view name, std::string_view head) {
  for (const Magic& magic : kForeign) {
    if (head.substr(0, magic.bytes.size()) == magic.bytes) {
      return absl::InvalidArgumentError(absl::StrFormat("%s %s", name, magic.means));
    }
  }
  if (head.substr(0, 3) == kBzip2 && head.size() >= 10 && head.substr(4, 6) == kBzip2Block) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s is compressed by bzip2; decompress it first (bzip2 -d), or make it .zst or .gz", name));
  }
  return absl::OkStatus();
}

bool IsSkippableZstd(std::string_view head) {
  return head.size() >= 4 && head.substr(1, 3) == "\x2a\x4d\x18"sv && (head[0] & '\xf0') == '\x50';
}

}  // namespace

std::string At(std::string_view name, int64_t line) {
  return absl::StrFormat("%s:%d: ", name, line);
}

// Where all bytes come from: a descriptor, or somebody's stream. What was read to look at it is read again.
class Input::RawBytes : public ByteStream {
 public:
  RawBytes(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {}
  RawBytes(std::unique_ptr<ByteStream> stream, std::string name)
      : stream_(std::move(stream)), name_(std::move(name)) {}
  ~RawBytes() override {
    if (descriptor_ >= 0) close(descriptor_);
  }

  absl::StatusOr<std::string_view> Read() override {
    if (!head_.empty()) {
      given_ = std::exchange(head_, "");
      bytes_ += static_cast<int64_t>(given_.size());
      return given_;
    }
    BDH_ASSIGN_OR_RETURN(const std::string_view got, ReadMore());
    bytes_ += static_cast<int64_t>(got.size());
    return got;
  }

  // The first bytes, fewer than kMagicBytes only if there are no more.
  absl::StatusOr<std::string_view> Head() {
    while (head_.size() < kMagicBytes) {
      BDH_ASSIGN_OR_RETURN(const std::string_view got, ReadMore());
      if (got.empty()) break;
      head_ += got;
    }
    return head_;
  }

  absl::Status Seek(int64_t offset) {
    BDH_CHECK(descriptor_ >= 0);
    head_.clear();
    if (lseek(descriptor_, offset, SEEK_SET) < 0)
      return ErrnoStatus(errno, absl::StrFormat("seek in %s", name_));
    return absl::OkStatus();
  }

  int64_t bytes() const { return bytes_; }
  int descriptor() const { return descriptor_; }

 private:
  absl::StatusOr<std::string_view> ReadMore() {
    if (stream_ != nullptr) return stream_->Read();
    buffer_.resize(kReadBytes);
    while (true) {
      const ssize_t got = read(descriptor_, buffer_.data(), buffer_.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoStatus(errno, absl::StrFormat("read %s", name_));
      return std::string_view(buffer_).substr(0, static_cast<size_t>(got));
    }
  }

  const int descriptor_ = -1;
  const std::unique_ptr<ByteStream> stream_;
  const std::string name_;
  std::string buffer_, head_, given_;
  int64_t bytes_ = 0;
};

Input::Input(std::string name) : name_(std::move(name)) {}
Input::~Input() = default;

absl::StatusOr<std::unique_ptr<Input>> Input::OpenFile(const SourceFile& file) {
  // O_NONBLOCK: a pipe put there since the listing must not hold us.
  const int descriptor = open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", file.path));
  std::unique_ptr<Input> input(new Input(file.name.empty() ? file.path : file.name));
  input->raw_ = std::make_unique<RawBytes>(descriptor, file.path);
  BDH_RETURN_IF_ERROR(CheckUnchanged(file, descriptor));
  input->file_size_ = file.size_bytes;
  posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
  BDH_RETURN_IF_ERROR(input->ChooseDecompressor());
  input->seekable_ = input->decompressed_ == nullptr;
  return input;
}

absl::StatusOr<std::unique_ptr<Input>> Input::FromStream(NamedStream stream) {
  std::unique_ptr<Input> input(new Input(std::move(stream.name)));
  input->raw_ = std::make_unique<RawBytes>(std::move(stream.bytes), input->name_);
  BDH_RETURN_IF_ERROR(input->ChooseDecompressor());
  return input;
}

absl::Status Input::ChooseDecompressor() {
  BDH_ASSIGN_OR_RETURN(const std::string_view head, raw_->Head());
  BDH_RETURN_IF_ERROR(CheckForeign(name_, head));
  if (head.substr(0, kGzip.size()) == kGzip) {
    decompressed_ = GunzipStream(*raw_, name_);
  } else if (head.substr(0, kZstd.size()) == kZstd || IsSkippableZstd(head)) {
    decompressed_ = UnzstdStream(*raw_, name_);
  } else if (absl::EndsWith(name_, ".gz") && !head.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s is no gzip file, though its name says so; fetch it again, or give it its right name", name_));
  } else if (absl::EndsWith(name_, ".zst") && !head.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s is no zstd file, though its name says so; fetch it again, or give it its right name", name_));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Input::Fill() {
  ByteStream& from = decompressed_ != nullptr ? *decompressed_ : *raw_;
  BDH_ASSIGN_OR_RETURN(const std::string_view got, from.Read());
  if (got.empty()) return false;
  // Moving what is left costs less than what comes, because what was consumed is at least as much.
  if (begin_ > 0 && begin_ >= buffer_.size() - begin_) {
    buffer_.erase(0, begin_);
    begin_ = 0;
    if (buffer_.size() < kBufferBytesKept / 2 && buffer_.capacity() > kBufferBytesKept)
      buffer_.shrink_to_fit();
  }
  buffer_.append(got);
  return true;
}

void Input::Consume(size_t count) {
  BDH_CHECK(count <= buffer_.size() - begin_);
  begin_ += count;
  offset_ += static_cast<int64_t>(count);
}

absl::Status Input::Seek(int64_t offset) {
  BDH_RETURN_IF_ERROR(raw_->Seek(offset));
  buffer_.clear();
  begin_ = 0;
  offset_ = offset;
  return absl::OkStatus();
}

absl::Status Input::Spool(const std::string& folder) {
  std::string path = folder + "/spool.XXXXXX";
  const int descriptor = mkostemp(path.data(), O_CLOEXEC);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("make a file in %s for %s", folder, name_));
  unlink(path.c_str());
  auto spool = std::make_unique<RawBytes>(descriptor, name_);
  int64_t size = 0;
  while (true) {
    for (std::string_view rest = data(); !rest.empty();) {
      const ssize_t written = write(descriptor, rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return ErrnoStatus(errno, absl::StrFormat("keep %s in %s", name_, folder));
      rest.remove_prefix(static_cast<size_t>(written));
      size += written;
    }
    Consume(data().size());
    BDH_ASSIGN_OR_RETURN(const bool more, Fill());
    if (!more) break;
  }
  spooled_bytes_ = raw_->bytes();
  decompressed_ = nullptr;
  raw_ = std::move(spool);
  file_size_ = size;
  seekable_ = true;
  return Seek(0);
}

int64_t Input::file_bytes() const {
  return spooled_bytes_ >= 0 ? spooled_bytes_ : raw_->bytes();
}
int Input::descriptor() const {
  return seekable_ ? raw_->descriptor() : -1;
}

}  // namespace bdh::documents
