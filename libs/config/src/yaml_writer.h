#pragma once

#include <string>

#include "bdh/config/config.h"
#include "schema.h"

namespace bdh::config {

// The value of one field on one line, as YAML; a list as "[a, b]". Empty: unset.
std::string ValueText(const Message& message, const FieldDescriptor& field, Secrets secrets);

}  // namespace bdh::config
