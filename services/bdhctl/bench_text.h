#pragma once

#include <cstddef>
#include <string>

namespace bdh::bdhctl {

// As much text as asked for, always the same: English, scripts of the world, code, markdown and emoji, in
// words that are as unequal as those of a language.
std::string MixedText(size_t bytes);

}  // namespace bdh::bdhctl
