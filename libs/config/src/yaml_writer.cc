#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/config/config.h"
#include "yaml_writer.h"

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

class Writer {
 public:
  Writer(Secrets secrets, const std::map<std::string, std::string>* origins)
      : secrets_(secrets), origins_(origins) {}

  void Write(const Message& message, const std::string& path, const std::string& indent) {
    const Descriptor& type = *message.GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) WriteField(message, *type.field(i), path, indent);
  }

  std::string Take() { return std::move(out_); }

 private:
  void WriteField(const Message& message, const FieldDescriptor& field, const std::string& path,
                  const std::string& indent) {
    const auto& reflection = *message.GetReflection();
    const int count =
        field.is_repeated() ? reflection.FieldSize(message, &field) : reflection.HasField(message, &field);
    if (count == 0) return;
    const std::string key = JoinPath(path, field.name());
    std::string line = indent + field.name() + ":";
    if (IsSection(field)) {
      const size_t before = out_.size();
      out_ += line + "\n";
      const size_t after = out_.size();
      Write(reflection.GetMessage(message, &field), key, indent + "  ");
      if (out_.size() == after) out_.replace(before, std::string::npos, line + " {}\n");
    } else if (field.is_repeated()) {
      AddLine(line, key);
      for (int item = 0; item < count; ++item) {
        out_ += indent + "  - " + ScalarText(message, field, item, secrets_) + "\n";
      }
    } else {
      AddLine(line + " " + ScalarText(message, field, -1, secrets_), key);
    }
  }

  void AddLine(const std::string& line, const std::string& key) {
    // Wide enough for most keys, so that the comments line up.
    constexpr size_t kColumn = 44;
    out_ += line;
    if (origins_ != nullptr) {
      const auto origin = origins_->find(key);
      out_ += std::string(line.size() < kColumn ? kColumn - line.size() : 2, ' ');
      out_ += "# " + (origin == origins_->end() ? "default" : OneLine(origin->second));
    }
    out_ += "\n";
  }

  // A name of a file may hold anything; a comment ends with its line.
  static std::string OneLine(std::string text) {
    for (char& c : text) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return text;
  }

  const Secrets secrets_;
  const std::map<std::string, std::string>* const origins_;
  std::string out_;
};

std::string Written(const Message& message, Secrets secrets,
                    const std::map<std::string, std::string>* origins) {
  Writer writer(secrets, origins);
  writer.Write(message, "", "");
  std::string text = writer.Take();
  return text.empty() ? "{}\n" : text;
}

}  // namespace

std::string ToYaml(const google::protobuf::Message& message, Secrets secrets) {
  return Written(message, secrets, nullptr);
}

std::string ToYaml(const Loaded& loaded) {
  return Written(loaded.config, Secrets::kHide, &loaded.origins);
}

std::string ValueText(const Message& message, const FieldDescriptor& field, Secrets secrets) {
  if (!field.is_repeated()) {
    return message.GetReflection()->HasField(message, &field) ? ScalarText(message, field, -1, secrets) : "";
  }
  std::string text;
  for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i) {
    text += (i > 0 ? ", " : "") + ScalarText(message, field, i, secrets);
  }
  return text.empty() ? "" : "[" + text + "]";
}

}  // namespace bdh::config
