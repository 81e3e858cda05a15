#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/tensorfile/safetensors.h"
#include "safetensors_header.h"

namespace bdh::tensorfile {
namespace {

absl::StatusOr<std::string_view> MapFile(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return ErrnoStatus(errno, absl::StrFormat("open %s", path));
  const auto close = absl::MakeCleanup([&] { ::close(descriptor); });
  struct stat info;
  if (::fstat(descriptor, &info) != 0) return ErrnoStatus(errno, absl::StrFormat("stat %s", path));
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrFormat("%s: not a file", path));
  const auto size = static_cast<uint64_t>(info.st_size);
  if (size < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %d bytes are no safetensors file", path, size));
  }
  void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED) return ErrnoStatus(errno, absl::StrFormat("map %s", path));
  return std::string_view(static_cast<const char*>(mapped), size);
}

uint64_t LittleEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

}  // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  BDH_ASSIGN_OR_RETURN(const std::string_view mapped, MapFile(path));
  SafetensorsFile file(path, mapped);
  BDH_RETURN_IF_ERROR(Annotate(file.ReadHeader(), path));
  return file;
}

absl::Status SafetensorsFile::ReadHeader() {
  const uint64_t length = LittleEndian(mapped_.substr(0, kLengthBytes));
  const uint64_t rest = mapped_.size() - kLengthBytes;
  if (length > rest || length > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("header claims %d bytes, the file has %d more and the format allows %d: cut short, "
                        "or no safetensors file",
                        length, rest, kMaxHeaderBytes));
  }
  data_ = mapped_.substr(kLengthBytes + length);
  BDH_ASSIGN_OR_RETURN(Header header, ParseHeader(mapped_.substr(kLengthBytes, length), data_.size()));
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
  for (size_t i = 0; i < tensors_.size(); ++i) index_[tensors_[i].name] = i;
  return absl::OkStatus();
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : path_(std::move(other.path_)),
      mapped_(std::exchange(other.mapped_, {})),
      data_(std::exchange(other.data_, {})),
      tensors_(std::move(other.tensors_)),
      index_(std::move(other.index_)),
      metadata_(std::move(other.metadata_)) {}

SafetensorsFile::~SafetensorsFile() {
  if (!mapped_.empty()) ::munmap(const_cast<char*>(mapped_.data()), mapped_.size());
}

const TensorInfo* SafetensorsFile::Find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

absl::StatusOr<std::string_view> SafetensorsFile::Bytes(std::string_view name) const {
  const TensorInfo* tensor = Find(name);
  if (tensor == nullptr) return absl::NotFoundError(absl::StrFormat("%s: has no tensor %s", path_, name));
  return data_.substr(tensor->offset, tensor->size_bytes);
}

template <class T>
absl::StatusOr<std::vector<T>> SafetensorsFile::Elements(std::string_view name,
                                                         std::string_view dtype) const {
  BDH_ASSIGN_OR_RETURN(const std::string_view bytes, Bytes(name));
  if (Find(name)->dtype != dtype) {
    return Annotate(TensorError(name, absl::StrFormat("is of type %s; want %s", Find(name)->dtype, dtype)),
                    path_);
  }
  std::vector<T> elements(bytes.size() / sizeof(T));
  if (!elements.empty()) std::memcpy(elements.data(), bytes.data(), bytes.size());
  return elements;
}

absl::StatusOr<std::vector<float>> SafetensorsFile::Floats(std::string_view name) const {
  return Elements<float>(name, "F32");
}

absl::StatusOr<std::vector<int64_t>> SafetensorsFile::Integers(std::string_view name) const {
  return Elements<int64_t>(name, "I64");
}

}  // namespace bdh::tensorfile
