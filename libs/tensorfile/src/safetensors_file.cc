#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/tensorfile/safetensors.h"
#include "little_endian.h"
#include "mapped_file.h"
#include "safetensors_header.h"

namespace bdh::tensorfile {
absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  BDH_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  if (mapped.bytes().size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d bytes are no safetensors file", path, mapped.bytes().size()));
  }
  SafetensorsFile file(path, std::make_unique<MappedFile>(std::move(mapped)));
  BDH_RETURN_IF_ERROR(Annotate(file.ReadHeader(), path));
  return file;
}

absl::Status SafetensorsFile::ReadHeader() {
  const std::string_view bytes = mapped_->bytes();
  const uint64_t length = LittleEndian(bytes.substr(0, kLengthBytes));
  const uint64_t rest = bytes.size() - kLengthBytes;
  if (length > rest || length > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("header claims %d bytes, the file has %d more and the format allows %d: cut short, "
                        "or no safetensors file",
                        length, rest, kMaxHeaderBytes));
  }
  data_ = bytes.substr(kLengthBytes + length);
  BDH_ASSIGN_OR_RETURN(Header header, ParseHeader(bytes.substr(kLengthBytes, length), data_.size()));
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
  for (size_t i = 0; i < tensors_.size(); ++i) index_[tensors_[i].name] = i;
  return absl::OkStatus();
}

SafetensorsFile::SafetensorsFile(std::string path, std::unique_ptr<MappedFile> mapped)
    : path_(std::move(path)), mapped_(std::move(mapped)) {}
SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept = default;
SafetensorsFile::~SafetensorsFile() = default;

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
