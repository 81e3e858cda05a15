// What a file's name says of its content.
#pragma once

#include <string_view>

#include "bdh/documents/options.h"

namespace bdh::documents {

// kGuess: nothing. .gz and .zst behind it do not matter.
Format FormatOfName(std::string_view name);
inline bool HasKnownEnding(std::string_view name) {
  return FormatOfName(name) != Format::kGuess;
}

}  // namespace bdh::documents
