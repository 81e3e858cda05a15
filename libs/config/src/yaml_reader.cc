#include "yaml_reader.h"

#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/config/config.h"
#include "secrets.h"

namespace bdh::config {
namespace {

using Kind = Node::Kind;

// A list as long as this is a mistake, or an attack by aliases.
constexpr size_t kMaxListItems = 10000;

std::string KindText(const Node& node, const FieldDescriptor& field) {
  switch (node.kind) {
    case Kind::kNull:
      return "has no value";
    case Kind::kList:
      return "is a list";
    case Kind::kMap:
      return "is a map";
    case Kind::kScalar:
      break;
  }
  return field.is_repeated() ? "is a single value" : "is " + Shown(field, node.text);
}

// "my.yaml:3", "--set".
std::string Source(const Node& node, const Origin& origin) {
  return origin.has_positions ? absl::StrFormat("%s:%d", origin.name, node.line) : origin.name;
}

// Keys come from outside: shown on one line and not at any length.
std::string KeyText(const Node& key) {
  constexpr size_t kMost = 60;
  const std::string text = absl::Utf8SafeCHexEscape(key.text);
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

std::string OrSecret(const FieldDescriptor& field) {
  return RuleOf(field).secret() ? absl::StrFormat(", %s", kSecretForms) : "";
}

// Secrets that `node` names, into the field, singular or by appending. `most` is how many it may be.
void ReadReference(const Node& node, size_t most, const FieldDescriptor& field, const std::string& path,
                   const Reading& reading, Message& out) {
  const std::string place = reading.origin.Place(node);
  if (!reading.folder.has_value()) {
    return reading.findings.Add(place, path,
                                "names a secret elsewhere; only a file, --set or a variable may");
  }
  const auto secrets = ReadSecrets(node, *reading.folder);
  if (!secrets.ok()) return reading.findings.Add(place, path, std::string(secrets.status().message()));
  if (secrets->size() > most) {
    return reading.findings.Add(place, path,
                                absl::StrFormat("names %d secrets; want %d", secrets->size(), most));
  }
  for (const std::string& secret : *secrets) {
    ReadScalar(secret, /*quoted=*/true, place, field, path, reading, out);
  }
}

void ReadItem(const Node& item, const FieldDescriptor& field, const std::string& path, const Reading& reading,
              Message& out) {
  if (RuleOf(field).secret() && IsSecretReference(item)) {
    ReadReference(item, kMaxListItems, field, path, reading, out);
  } else if (item.kind != Kind::kScalar) {
    reading.findings.Add(reading.origin.Place(item), path,
                         KindText(item, field) + "; want text" + OrSecret(field));
  } else {
    ReadScalar(item.text, item.quoted, reading.origin.Place(item), field, path, reading, out);
  }
}

void ReadList(const Node& node, const FieldDescriptor& field, const std::string& path, const Reading& reading,
              Message& out) {
  const std::string place = reading.origin.Place(node);
  const bool is_reference = RuleOf(field).secret() && IsSecretReference(node);
  if (node.kind != Kind::kList && !is_reference) {
    return reading.findings.Add(place, path,
                                KindText(node, field) + "; want " + Wanted(field) + OrSecret(field));
  }
  if (node.items.size() > kMaxListItems) {
    return reading.findings.Add(
        place, path, absl::StrFormat("has %d items; want at most %d", node.items.size(), kMaxListItems));
  }
  out.GetReflection()->ClearField(&out, &field);
  if (is_reference) return ReadReference(node, kMaxListItems, field, path, reading, out);
  for (size_t i = 0; i < node.items.size() && !reading.findings.full(); ++i) {
    ReadItem(*node.items[i], field, absl::StrFormat("%s[%d]", path, i), reading, out);
  }
}

std::string NameOf(const std::string& section) {
  return section.empty() ? "the document" : section;
}

// The key's field in the section at `path`, after what can be wrong with the key itself. Null: nothing to
// read.
const FieldDescriptor* FieldOf(const Node& key, const std::string& path,
                               std::map<std::string, const Node*>& seen, const Reading& reading,
                               const Descriptor& section) {
  const std::string place = reading.origin.Place(key);
  if (key.kind != Kind::kScalar) {
    reading.findings.Add(place, NameOf(path), "has a key that is not text");
    return nullptr;
  }
  const std::string key_path = JoinPath(path, KeyText(key));
  if (const auto [first, is_new] = seen.emplace(key.text, &key); !is_new) {
    reading.findings.Add(place, key_path,
                         absl::StrFormat("given twice; first on line %d", first->second->line));
    return nullptr;
  }
  if (path.empty() && !key.text.empty() && key.text == reading.reserved_key) return nullptr;
  const FieldDescriptor* const field = section.FindFieldByName(key.text);
  if (field == nullptr) reading.findings.Add(place, key_path, UnknownKey(reading.root, section, key.text));
  return field;
}

}  // namespace

void ReadScalar(std::string_view text, bool quoted, const std::string& place, const FieldDescriptor& field,
                const std::string& path, const Reading& reading, Message& out) {
  const std::string problem = StoreScalar(field, text, quoted, out);
  if (!problem.empty()) reading.findings.Add(place, path, problem);
}

void ReadField(const Node& node, const Node& subject, const FieldDescriptor& field, const std::string& path,
               const Reading& reading, Message& out) {
  if (IsSection(field)) {
    Message& section = *out.GetReflection()->MutableMessage(&out, &field);
    // "train:" with every key commented out.
    if (node.kind != Kind::kNull) ReadSection(node, path, reading, section);
    return;
  }
  reading.findings.origins[path] = Source(node, reading.origin);
  const std::string place = reading.origin.Place(node);
  if (node.kind == Kind::kNull) {
    reading.findings.Add(reading.origin.Place(subject), path,
                         "has no value; want " + Wanted(field) + "; or leave the key out");
  } else if (field.is_repeated()) {
    ReadList(node, field, path, reading, out);
  } else if (RuleOf(field).secret() && IsSecretReference(node)) {
    ReadReference(node, 1, field, path, reading, out);
  } else if (node.kind != Kind::kScalar) {
    reading.findings.Add(place, path, KindText(node, field) + "; want " + Wanted(field) + OrSecret(field));
  } else {
    ReadScalar(node.text, node.quoted, place, field, path, reading, out);
  }
}

void ReadSection(const Node& node, const std::string& path, const Reading& reading, Message& out) {
  if (node.kind != Kind::kMap) {
    return reading.findings.Add(
        reading.origin.Place(node), NameOf(path),
        node.kind == Kind::kList ? "is a list; want keys and values" : "is text; want keys and values");
  }
  std::map<std::string, const Node*> seen;
  for (const auto& [key, value] : node.pairs) {
    if (reading.findings.full()) return;
    const FieldDescriptor* const field = FieldOf(*key, path, seen, reading, *out.GetDescriptor());
    if (field != nullptr) ReadField(*value, *key, *field, JoinPath(path, field->name()), reading, out);
  }
}

absl::Status ReadYaml(std::string_view yaml, std::string_view origin, google::protobuf::Message& out) {
  Findings findings;
  const Reading reading{{std::string(origin)}, *out.GetDescriptor(), findings, std::nullopt, ""};
  BDH_ASSIGN_OR_RETURN(const Document document, Document::Parse(yaml, reading.origin));
  // Empty, or comments alone.
  if (document.root().kind != Kind::kNull) ReadSection(document.root(), "", reading, out);
  return findings.First();
}

}  // namespace bdh::config
