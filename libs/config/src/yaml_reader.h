#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "absl/status/status.h"
#include "document.h"
#include "schema.h"

namespace bdh::config {

// Reads a map into `out`, whose path is `path`; `root` is the schema that suggestions are taken from.
absl::Status ReadSection(const Node& node, const std::string& path, const Origin& origin,
                         const Descriptor& root, Message& out);

// Reads the value of one field, replacing what was there. `subject` is where an error about the field as a
// whole points to.
absl::Status ReadField(const Node& node, const Node& subject, const FieldDescriptor& field,
                       const std::string& path, const Origin& origin, const Descriptor& root, Message& out);

}  // namespace bdh::config
