// The JSON header of a safetensors file, checked, and the checks that reading and writing share.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/tensorfile/safetensors.h"

namespace bdh::tensorfile {

inline constexpr uint64_t kLengthBytes = 8;               // The header's length, before the header.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // The format's own limit.
inline constexpr char kMetadataKey[] = "__metadata__";

struct Header {
  std::vector<TensorInfo> tensors;  // In the order of their offsets.
  std::map<std::string, std::string> metadata;
};

// Reads `json`, the header of a file with `data_bytes` bytes after it.
absl::StatusOr<Header> ParseHeader(std::string_view json, uint64_t data_bytes);

// The JSON of `header`, padded with spaces so that the data after it is aligned.
std::string FormatHeader(const Header& header);

// InvalidArgumentError that begins with the tensor's name, whatever bytes that is made of.
absl::Status TensorError(std::string_view name, std::string_view complaint);

// The bytes that `shape` of `dtype` takes.
absl::StatusOr<uint64_t> SizeOf(std::string_view name, std::string_view dtype,
                                const std::vector<int64_t>& shape);

}  // namespace bdh::tensorfile
