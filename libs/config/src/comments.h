#pragma once

#include <string>

#include "schema.h"

namespace bdh::config {

// What the schema's comments say about a field or a section, on one line, or empty.
std::string CommentOf(const FieldDescriptor& field);
std::string CommentOf(const Descriptor& section);

}  // namespace bdh::config
