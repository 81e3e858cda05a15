#pragma once

#include <google/protobuf/message.h>

#include <optional>
#include <string>
#include <string_view>

#include "document.h"
#include "findings.h"
#include "schema.h"

namespace bdh::config {

// What goes for a whole text.
struct Reading {
  Origin origin;
  const Descriptor& root;  // The schema that suggestions are taken from.
  Findings& findings;
  // Where relative paths of secrets begin. Absent: the text may not name secrets elsewhere, because it came
  // over the wire.
  std::optional<std::string> folder;
  // A key of the document itself that is none of the schema's.
  std::string_view reserved_key;
};

// Reads a map into `out`, whose path is `path`.
void ReadSection(const Node& node, const std::string& path, const Reading& reading, Message& out);

// Reads the value of one field, replacing what was there. `subject` is where an error about the field as a
// whole points to.
void ReadField(const Node& node, const Node& subject, const FieldDescriptor& field, const std::string& path,
               const Reading& reading, Message& out);

// Stores one text into `field`, singular or by appending, with findings as above.
void ReadScalar(std::string_view text, bool quoted, const std::string& place, const FieldDescriptor& field,
                const std::string& path, const Reading& reading, Message& out);

}  // namespace bdh::config
