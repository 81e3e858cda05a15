// Tensor files in the safetensors format: read in place through a memory map, or written whole.
//
// A file is 8 bytes of header length, a JSON header, and the tensors' bytes (little-endian, row-major). What
// Open accepts is exactly the format: every tensor has a known type and a shape that fits its bytes, and the
// tensors cover the data without overlap or gap. So whoever reads an opened file need not check offsets
// again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::tensorfile {

class MappedFile;

// Bytes of one element of the format's type `dtype` ("F32", "I64", "BF16", ...), or 0 if there is no such
// type.
int64_t ElementSize(std::string_view dtype);

struct TensorInfo {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;  // Empty for a scalar.
  uint64_t offset = 0;         // Of the first byte, counted from the end of the header.
  uint64_t size_bytes = 0;

  int64_t element_count() const;
};

// An open file. Movable; may be read from any thread. The bytes are the file's own: whoever shortens the file
// while it is open ends this process (SIGBUS), so replace such files by renaming, as WriteSafetensors does.
class SafetensorsFile {
 public:
  // InvalidArgumentError says what is wrong with the file and with which tensor; NotFoundError and the like
  // when it cannot be read at all.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) = delete;
  ~SafetensorsFile();

  const std::string& path() const { return path_; }
  // In the order of their bytes.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // nullptr when there is no tensor of that name.
  const TensorInfo* Find(std::string_view name) const;

  // The tensor's bytes, alive as long as this object and at no particular alignment; or NotFoundError.
  absl::StatusOr<std::string_view> Bytes(std::string_view name) const;

  // Copies of the elements of an F32 or an I64 tensor. InvalidArgumentError when its type is another.
  absl::StatusOr<std::vector<float>> Floats(std::string_view name) const;
  absl::StatusOr<std::vector<int64_t>> Integers(std::string_view name) const;

 private:
  SafetensorsFile(std::string path, std::unique_ptr<MappedFile> mapped);
  absl::Status ReadHeader();
  template <class T>
  absl::StatusOr<std::vector<T>> Elements(std::string_view name, std::string_view dtype) const;

  std::string path_;
  std::unique_ptr<MappedFile> mapped_;
  std::string_view data_;  // What follows the header.
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

struct TensorToWrite {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string_view bytes;
};

// Writes a file that replaces `path` as a whole, synced; nothing is left behind on failure. Every tensor
// starts at a multiple of its element size. InvalidArgumentError names a tensor whose type, shape, size or
// name is wrong.
absl::Status WriteSafetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                              const std::map<std::string, std::string>& metadata = {});

}  // namespace bdh::tensorfile
