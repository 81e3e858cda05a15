// What the schema says of a field, and single values: from text, into a message, against their rule.
//
// Functions that find something wrong return a sentence without its subject, `is 0; want 1 to 1024`, which
// callers put behind the place and the path. Empty: all is well.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>
#include <string_view>
#include <vector>

#include "bdh/v1/config.pb.h"

namespace bdh::config {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// The one key of a file that is none of the schema's: which files it builds on.
inline constexpr std::string_view kExtends = "extends";

const v1::FieldRule& RuleOf(const FieldDescriptor& field);
bool IsSection(const FieldDescriptor& field);  // A message, not repeated.

// "integer", "number", "text", "true or false", "section"; "list of text". For errors and for the docs.
std::string TypeName(const FieldDescriptor& field);
// "1 to 1024", "0 or more", "constant, linear or cosine"; empty if anything goes.
std::string RangeText(const FieldDescriptor& field);
// "an integer, 1 to 1024 tokens"
std::string Wanted(const FieldDescriptor& field);

// A value as an error shows it: quoted, cut when long, "***" if the field is secret.
std::string Shown(const FieldDescriptor& field, std::string_view text);

// Parses `text`, checks it and stores it; a repeated field gets it appended. Never converts: an integer with
// a fraction, a number with a tail or one that overflows is refused. `quoted`: it is text, whatever it looks
// like.
std::string StoreScalar(const FieldDescriptor& field, std::string_view text, bool quoted, Message& out);

// Checks the stored value against the rule. `index` is -1 for a singular field.
std::string CheckScalar(const Message& message, const FieldDescriptor& field, int index);

// "unknown key; did you mean max_steps?", from the fields of `section` and those elsewhere under `root`.
std::string UnknownKey(const Descriptor& root, const Descriptor& section, std::string_view key);

// The candidate with the smallest edit distance, if that is small for its length; else empty.
std::string Nearest(const std::vector<std::string>& candidates, std::string_view word);

// Every field that holds a value, with its path: "train.max_steps".
struct Leaf {
  std::string path;
  const FieldDescriptor* field;
};
std::vector<Leaf> Leaves(const Descriptor& root);

std::string JoinPath(std::string_view path, std::string_view key);
std::string FormatDouble(double value);  // Shortest text that reads back as the same number.

}  // namespace bdh::config
