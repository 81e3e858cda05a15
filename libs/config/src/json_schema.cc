#include <nlohmann/json.hpp>

#include "absl/strings/str_replace.h"
#include "bdh/config/reference.h"
#include "comments.h"
#include "rules.h"
#include "schema.h"
#include "units.h"

namespace bdh::config {
namespace {

using Json = nlohmann::ordered_json;

bool IsNumber(const FieldDescriptor& field) {
  return field.cpp_type() != FieldDescriptor::CPPTYPE_STRING &&
         field.cpp_type() != FieldDescriptor::CPPTYPE_BOOL;
}

// A bound as a number of the field's own kind: 1, not 1.0.
Json Bound(const FieldDescriptor& field, double value) {
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) return value;
  return static_cast<int64_t>(value);
}

Json Number(const FieldDescriptor& field) {
  const v1::FieldRule& rule = RuleOf(field);
  Json number;
  number["type"] = TypeName(field);
  if (rule.has_min()) number["minimum"] = Bound(field, rule.min());
  if (rule.has_max()) number["maximum"] = Bound(field, rule.max());
  const bool is_unsigned = field.cpp_type() == FieldDescriptor::CPPTYPE_UINT32 ||
                           field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
  if (is_unsigned && !rule.has_min()) number["minimum"] = 0;
  const std::string units = UnitsOf(rule.unit());
  if (units.empty()) return number;
  const std::string pattern = "^[0-9]+(\\.[0-9]+)? ?(" + absl::StrReplaceAll(units, {{", ", "|"}}) + ")$";
  return {{"anyOf", Json::array({number, {{"type", "string"}, {"pattern", pattern}}})}};
}

Json Text(const FieldDescriptor& field) {
  Json text;
  if (!RuleOf(field).allowed().empty()) {
    for (const std::string& word : RuleOf(field).allowed()) text["enum"].push_back(word);
    return text;
  }
  text["type"] = {"string", "number", "boolean"};  // Taken as it stands: 2024 is the text 2024.
  return text;
}

Json One(const FieldDescriptor& field) {
  if (IsNumber(field)) return Number(field);
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_BOOL) return {{"type", "boolean"}};
  return Text(field);
}

Json OrSecret(Json value) {
  return {{"anyOf", Json::array({std::move(value), {{"$ref", "#/$defs/secret"}}})}};
}

// The default as a value, not as text.
Json Default(const FieldDescriptor& field) {
  const std::string& text = RuleOf(field).default_value();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) return text;
  return Json::parse(text);
}

Json Value(const FieldDescriptor& field) {
  const bool secret = RuleOf(field).secret();
  Json value = secret ? OrSecret(One(field)) : One(field);
  if (field.is_repeated()) {
    value = {{"type", "array"}, {"items", std::move(value)}, {"maxItems", 10000}};
    if (secret) value = OrSecret(std::move(value));
  }
  if (const std::string comment = CommentOf(field); !comment.empty()) value["description"] = comment;
  if (RuleOf(field).has_default_value()) value["default"] = Default(field);
  return value;
}

Json Section(const Descriptor& type) {
  Json section{{"type", {"object", "null"}}};
  if (const std::string comment = CommentOf(type); !comment.empty()) section["description"] = comment;
  section["additionalProperties"] = false;
  section["properties"] = Json::object();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    section["properties"][field.name()] = IsSection(field) ? Section(*field.message_type()) : Value(field);
  }
  return section;
}

Json Extends() {
  const Json file{{"type", "string"}, {"minLength", 1}};
  return {{"description",
           "Files this one builds on, relative to it; the later override the earlier, and this "
           "file overrides them all."},
          {"anyOf", Json::array({file, {{"type", "array"}, {"items", file}, {"minItems", 1}}})}};
}

Json SecretReference() {
  const auto form = [](const char* key, const char* what) {
    return Json{{"type", "object"},
                {"additionalProperties", false},
                {"required", Json::array({key})},
                {"properties", {{key, {{"type", "string"}, {"description", what}}}}}};
  };
  return {{"description", "A secret that stands elsewhere, one a line."},
          {"anyOf", Json::array({form("file", "A file that not everybody can read, relative to this one."),
                                 form("env", "A variable of the environment.")})}};
}

}  // namespace

std::string JsonSchema() {
  Json schema{{"$schema", "https://json-schema.org/draft/2020-12/schema"},
              {"$id", "urn:bdh:config:v1"},
              {"title", "Configuration of bdh"}};
  Json root = Section(*v1::Config::descriptor());
  root["properties"][std::string(kExtends)] = Extends();
  schema.update(root);
  std::string rules = "Rules across keys, which this schema cannot check; `bdhctl config check FILE` does:";
  for (const Rule& rule : Rules()) rules += " " + rule.text;
  schema["$comment"] = rules;
  schema["$defs"] = {{"secret", SecretReference()}};
  return schema.dump(2) + "\n";
}

}  // namespace bdh::config
