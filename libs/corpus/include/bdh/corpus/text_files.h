// Text files as documents.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::corpus {

struct TextFile {
  std::string path;
  int64_t size_bytes;
};

// The files that `paths` mean: a file is itself, a folder is every *.txt in it and below it, in order of
// path. Paths are absolute, because the caller's working folder is not ours. NotFoundError: not there;
// InvalidArgumentError: relative, given twice, not a regular file, or a folder without a *.txt.
absl::StatusOr<std::vector<TextFile>> ListTextFiles(const std::vector<std::string>& paths);

// Reads a file in pieces of at most 1 MiB; stops at the first piece that is answered with an error.
absl::Status ReadTextFile(const std::string& path,
                          const std::function<absl::Status(std::string_view piece)>& consume);

}  // namespace bdh::corpus
