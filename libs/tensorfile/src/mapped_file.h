#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace bdh::tensorfile {

// A file's bytes as long as the object lives. Whoever shortens the file meanwhile ends this process (SIGBUS).
class MappedFile {
 public:
  // InvalidArgumentError: not a regular file.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  std::string_view bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::string_view bytes) : bytes_(bytes) {}
  std::string_view bytes_;
};

}  // namespace bdh::tensorfile
