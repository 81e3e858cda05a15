#pragma once

#include <cstdint>
#include <string_view>

namespace bdh::store {

// The Castagnoli checksum, by the processor's instruction where it has one.
uint32_t Crc32c(std::string_view bytes);

}  // namespace bdh::store
