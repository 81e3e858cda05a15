#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/config/config.h"
#include "schema.h"

namespace bdh::config {
namespace {

// Letters first, then what is harmless everywhere in YAML: paths, words and names of hosts stay readable.
// Whatever another reader of YAML could take for a number, a truth value or nothing is quoted.
bool IsPlain(const std::string& text) {
  static constexpr std::array<std::string_view, 11> kWords{"true", "false", "yes", "no",  "on", "off",
                                                           "null", "y",     "n",   "inf", "nan"};
  if (text.empty() || (!absl::ascii_isalpha(text[0]) && text[0] != '/' && text[0] != '_')) return false;
  if (text.back() == ':') return false;
  const auto harmless = [](char c) {
    return absl::ascii_isalnum(c) || std::string_view("_-./:").find(c) != std::string_view::npos;
  };
  if (!std::all_of(text.begin(), text.end(), harmless)) return false;
  return std::find(kWords.begin(), kWords.end(), absl::AsciiStrToLower(text)) == kWords.end();
}

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += absl::StrFormat("\\x%02x", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string ScalarText(const Message& message, const FieldDescriptor& field, int index, Secrets secrets) {
  if (secrets == Secrets::kHide && RuleOf(field).secret()) return "\"***\"";
  const auto& reflection = *message.GetReflection();
  const bool many = index >= 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return std::to_string(many ? reflection.GetRepeatedInt32(message, &field, index)
                                 : reflection.GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return std::to_string(many ? reflection.GetRepeatedInt64(message, &field, index)
                                 : reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return std::to_string(many ? reflection.GetRepeatedUInt32(message, &field, index)
                                 : reflection.GetUInt32(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return std::to_string(many ? reflection.GetRepeatedUInt64(message, &field, index)
                                 : reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return FormatDouble(many ? reflection.GetRepeatedDouble(message, &field, index)
                               : reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return (many ? reflection.GetRepeatedBool(message, &field, index) : reflection.GetBool(message, &field))
                 ? "true"
                 : "false";
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text =
          many ? reflection.GetRepeatedString(message, &field, index) : reflection.GetString(message, &field);
      return IsPlain(text) ? text : Quote(text);
    }
    default:
      BDH_CHECK(false) << field.full_name() << " is of a kind that configuration does not have";
      return "";
  }
}

void Write(const Message& message, const std::string& indent, Secrets secrets, std::string& out) {
  const auto& reflection = *message.GetReflection();
  const Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const int count =
        field.is_repeated() ? reflection.FieldSize(message, &field) : reflection.HasField(message, &field);
    if (count == 0) continue;
    out += indent + field.name() + ":";
    if (IsSection(field)) {
      std::string below;
      Write(reflection.GetMessage(message, &field), indent + "  ", secrets, below);
      out += below.empty() ? " {}\n" : "\n" + below;
    } else if (field.is_repeated()) {
      out += "\n";
      for (int item = 0; item < count; ++item)
        out += indent + "  - " + ScalarText(message, field, item, secrets) + "\n";
    } else {
      out += " " + ScalarText(message, field, -1, secrets) + "\n";
    }
  }
}

}  // namespace

std::string ToYaml(const google::protobuf::Message& message, Secrets secrets) {
  std::string out;
  Write(message, "", secrets, out);
  return out.empty() ? "{}\n" : out;
}

}  // namespace bdh::config
