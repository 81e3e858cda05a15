#include "yaml_reader.h"

#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "bdh/config/config.h"

namespace bdh::config {
namespace {

using Kind = Node::Kind;

// A list as long as this is a mistake, or an attack by aliases.
constexpr size_t kMaxListItems = 10000;

absl::Status Error(std::string_view place, std::string_view path, std::string_view sentence) {
  return absl::InvalidArgumentError(absl::StrFormat("%s%s: %s", place, path, sentence));
}

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

// Keys come from outside: shown on one line and not at any length.
std::string KeyText(const Node& key) {
  constexpr size_t kMost = 60;
  const std::string text = absl::Utf8SafeCHexEscape(key.text);
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

absl::Status ReadList(const Node& node, const FieldDescriptor& field, const std::string& path,
                      const Origin& origin, Message& out) {
  if (node.kind != Kind::kList) {
    return Error(origin.Place(node), path, KindText(node, field) + "; want " + Wanted(field));
  }
  if (node.items.size() > kMaxListItems) {
    return Error(origin.Place(node), path,
                 absl::StrFormat("has %d items; want at most %d", node.items.size(), kMaxListItems));
  }
  out.GetReflection()->ClearField(&out, &field);
  for (size_t i = 0; i < node.items.size(); ++i) {
    const Node& item = *node.items[i];
    const std::string item_path = absl::StrFormat("%s[%d]", path, i);
    if (item.kind != Kind::kScalar)
      return Error(origin.Place(item), item_path, KindText(item, field) + "; want text");
    const std::string problem = StoreScalar(field, item.text, item.quoted, out);
    if (!problem.empty()) return Error(origin.Place(item), item_path, problem);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadField(const Node& node, const Node& subject, const FieldDescriptor& field,
                       const std::string& path, const Origin& origin, const Descriptor& root, Message& out) {
  if (IsSection(field)) {
    Message& section = *out.GetReflection()->MutableMessage(&out, &field);
    // "train:" with every key commented out.
    if (node.kind == Kind::kNull) return absl::OkStatus();
    return ReadSection(node, path, origin, root, section);
  }
  if (node.kind == Kind::kNull) {
    return Error(origin.Place(subject), path,
                 "has no value; want " + Wanted(field) + "; or leave the key out");
  }
  if (field.is_repeated()) return ReadList(node, field, path, origin, out);
  if (node.kind != Kind::kScalar) {
    return Error(origin.Place(node), path, KindText(node, field) + "; want " + Wanted(field));
  }
  const std::string problem = StoreScalar(field, node.text, node.quoted, out);
  return problem.empty() ? absl::OkStatus() : Error(origin.Place(node), path, problem);
}

absl::Status ReadSection(const Node& node, const std::string& path, const Origin& origin,
                         const Descriptor& root, Message& out) {
  const std::string name = path.empty() ? "the document" : path;
  if (node.kind != Kind::kMap) {
    return Error(
        origin.Place(node), name,
        node.kind == Kind::kList ? "is a list; want keys and values" : "is text; want keys and values");
  }
  std::map<std::string, const Node*> seen;
  for (const auto& [key, value] : node.pairs) {
    if (key->kind != Kind::kScalar) return Error(origin.Place(*key), name, "has a key that is not text");
    const std::string key_path = JoinPath(path, KeyText(*key));
    if (const auto [first, is_new] = seen.emplace(key->text, key); !is_new) {
      return Error(origin.Place(*key), key_path,
                   absl::StrFormat("given twice; first on line %d", first->second->line));
    }
    const FieldDescriptor* field = out.GetDescriptor()->FindFieldByName(key->text);
    if (field == nullptr)
      return Error(origin.Place(*key), key_path, UnknownKey(root, *out.GetDescriptor(), key->text));
    BDH_RETURN_IF_ERROR(ReadField(*value, *key, *field, key_path, origin, root, out));
  }
  return absl::OkStatus();
}

absl::Status ReadYaml(std::string_view yaml, std::string_view origin, google::protobuf::Message& out) {
  const Origin from{std::string(origin)};
  BDH_ASSIGN_OR_RETURN(const Document document, Document::Parse(yaml, from));
  if (document.root().kind == Kind::kNull) return absl::OkStatus();  // Empty, or comments alone.
  return ReadSection(document.root(), "", from, *out.GetDescriptor(), out);
}

}  // namespace bdh::config
