#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace bdh::documents::parquet {

// InvalidArgumentError: a codec that is not read here, by name.
absl::Status CheckCodec(int codec);

// Makes `out` the `size` bytes that `in` was. DataLossError: it is not them.
absl::Status Decompress(int codec, std::string_view in, size_t size, std::string& out);

}  // namespace bdh::documents::parquet
