#pragma once

#include <string>

#include "bdh/pretrained/pretrained.h"

namespace bdh::pretrained {

// README.md: what the model is, how it came to be as far as that is known, and how to run it.
std::string ModelCard(const Description& description, SavedType dtype);

}  // namespace bdh::pretrained
