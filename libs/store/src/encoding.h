#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace bdh::store {

// Chunks made smaller: the bytes of each element gathered by their place (exponents beside exponents), then
// zstd. With a `base` of the same size it is the difference from it (XOR) that is kept.

// Nullopt: it would save less than a sixteenth.
std::optional<std::string> Compress(std::string_view bytes, int element_bytes, std::string_view base = {});

// DataLossError: not what Compress made of a chunk of this size.
absl::Status Decompress(std::string_view stored, int element_bytes, int64_t size, std::string_view base,
                        std::string& out);

}  // namespace bdh::store
