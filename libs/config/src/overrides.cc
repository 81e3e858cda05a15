#include "overrides.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "bdh/base/status_macros.h"
#include "bdh/config/config.h"
#include "document.h"
#include "yaml_reader.h"

namespace bdh::config {
namespace {

constexpr absl::string_view kPrefix = "BDH_";

// Text stands as it is, so that "*" or "a: b" need no quotes beside those of the shell; quotes still work.
bool IsVerbatim(const FieldDescriptor& field, std::string_view value) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_STRING && !field.is_repeated() &&
         (value.empty() ||
          (value[0] != '"' && value[0] != '\'' && !(value[0] == '{' && RuleOf(field).secret())));
}

void Assign(const FieldDescriptor& field, const std::string& path, std::string_view value,
            std::string_view origin, const Descriptor& root, Findings& findings, Message& out) {
  const Reading reading{{std::string(origin), false}, root, findings, /*folder=*/"", ""};
  if (IsVerbatim(field, value)) {
    findings.origins[path] = origin;
    return ReadScalar(value, /*quoted=*/false, reading.origin.Place(0, 0), field, path, reading, out);
  }
  const auto document = Document::Parse(value, {absl::StrFormat("%s: %s", origin, path), false});
  if (!document.ok()) return findings.Add(document.status(), path);
  const Node& node = document->root();
  ReadField(node, node, field, path, reading, out);
}

// "train.max_steps" -> "BDH_TRAIN_MAX_STEPS"
std::string VariableName(std::string_view path) {
  const absl::string_view text(path.data(), path.size());
  return std::string(kPrefix) + absl::AsciiStrToUpper(absl::StrReplaceAll(text, {{".", "_"}}));
}

// Kubernetes gives every pod such variables for a service called bdh-gateway: SERVICE_HOST, SERVICE_PORT,
// SERVICE_PORT_HTTP, PORT, PORT_8000_TCP, PORT_8000_TCP_ADDR.
bool IsFromKubernetes(std::string_view rest) {
  if (rest == "SERVICE_HOST" || rest == "SERVICE_PORT" || rest == "PORT") return true;
  if (rest.starts_with("SERVICE_PORT_")) return true;
  return rest.starts_with("PORT_") && rest.size() > 5 && absl::ascii_isdigit(rest[5]);
}

// Whether the variable was meant for a section of the schema.
bool BelongsToSection(std::string_view name, const Descriptor& root) {
  for (int i = 0; i < root.field_count(); ++i) {
    const std::string section = VariableName(root.field(i)->name());
    if (name == section) return true;
    if (name.starts_with(section + "_")) return !IsFromKubernetes(name.substr(section.size() + 1));
  }
  return false;
}

absl::Status UnknownVariable(const std::string& name, const std::vector<Leaf>& leaves) {
  std::vector<std::string> names;
  for (const Leaf& leaf : leaves) names.push_back(VariableName(leaf.path));
  const std::string guess = Nearest(names, name);
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: the environment sets this variable, but no key of the configuration has that name; %s", name,
      guess.empty() ? "unset it" : "did you mean " + guess + "?"));
}

// The message that holds the last of `keys`, and that key's field.
struct Target {
  Message* message;
  const FieldDescriptor* field;
};
absl::StatusOr<Target> Resolve(const std::vector<std::string>& keys, Message& out) {
  Target target{&out, nullptr};
  std::string path;
  for (const std::string& key : keys) {
    if (target.field != nullptr) {
      if (!IsSection(*target.field)) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%s: holds a value, so there is no %s in it", path, key));
      }
      target.message = target.message->GetReflection()->MutableMessage(target.message, target.field);
    }
    path = JoinPath(path, absl::Utf8SafeCHexEscape(key));
    const Descriptor& section = *target.message->GetDescriptor();
    target.field = section.FindFieldByName(key);
    if (target.field == nullptr) {
      return absl::InvalidArgumentError(path + ": " + UnknownKey(*out.GetDescriptor(), section, key));
    }
  }
  return target;
}

}  // namespace

void ApplySet(std::string_view assignment, std::string_view origin, Findings& findings, Message& out) {
  const size_t equals = assignment.find('=');
  const std::string path(assignment.substr(0, equals));
  if (equals == std::string_view::npos || path.empty()) {
    // Shows nothing after the sign: it may be a secret.
    return findings.Add(absl::InvalidArgumentError(
        absl::StrFormat("%s: want section.key=value, like train.max_steps=100", origin)));
  }
  const std::vector<std::string> keys = absl::StrSplit(path, '.');
  const auto target = Resolve(keys, out);
  if (!target.ok()) {
    return findings.Add(
        absl::InvalidArgumentError(absl::StrFormat("%s: %s", origin, target.status().message())));
  }
  Assign(*target->field, path, assignment.substr(equals + 1), origin, *out.GetDescriptor(), findings,
         *target->message);
}

absl::Status Set(std::string_view assignment, std::string_view origin, google::protobuf::Message& out) {
  Findings findings;
  ApplySet(assignment, origin, findings, out);
  return findings.First();
}

void ApplyEnvironment(const std::map<std::string, std::string>& environment, Findings& findings,
                      Message& out) {
  const std::vector<Leaf> leaves = Leaves(*out.GetDescriptor());
  std::map<std::string, std::string> paths;
  for (const Leaf& leaf : leaves) paths.emplace(VariableName(leaf.path), leaf.path);
  for (const auto& [name, value] : environment) {
    if (const auto path = paths.find(name); path != paths.end()) {
      ApplySet(path->second + "=" + value, name, findings, out);
    } else if (BelongsToSection(name, *out.GetDescriptor())) {
      findings.Add(UnknownVariable(name, leaves));
    }
  }
}

}  // namespace bdh::config
