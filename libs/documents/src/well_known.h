// configs/data/*.yaml, built in.
#pragma once

#include <span>
#include <string_view>
#include <utility>

namespace bdh::documents {

// File name and content, by name. well_known.cmake writes the definition.
extern const std::span<const std::pair<std::string_view, std::string_view>> kWellKnown;

}  // namespace bdh::documents
