// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bdh {

std::string FormatBytes(uint64_t bytes);        // "4.2 MiB"
std::string FormatCount(uint64_t count);        // "1.3M"
std::string FormatDuration(double seconds);     // "2m 05s"
std::string RandomHex(int bytes);               // From the system's generator: good enough for secrets.
std::string Sha256Hex(std::string_view bytes);  // Lower case.

// Whether `text` is valid UTF-8.
bool IsUtf8(std::string_view text);

// 1 to `max_length` of [a-z0-9._-], beginning with a letter or digit: the one rule for names of data sets
// and runs, so that they are safe as file names and as parts of a checkpoint's name.
bool IsResourceName(std::string_view name, size_t max_length = 64);

}  // namespace bdh
