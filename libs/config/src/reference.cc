#include "bdh/config/reference.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "schema.h"

namespace bdh::config {
namespace {

std::string Code(const std::string& text) {
  return text.empty() ? "" : "`" + text + "`";
}

std::string Row(const std::string& section, const FieldDescriptor& field) {
  const v1::FieldRule& rule = RuleOf(field);
  const std::string fallback = rule.has_default_value() ? Code(rule.default_value()) : "unset";
  std::string range = RangeText(field);
  if (range.empty() && !rule.unit().empty()) range = rule.unit();
  if (rule.secret()) range = "secret: printed as `***`";
  return absl::StrFormat("| %s | %s | %s | %s |\n", Code(JoinPath(section, field.name())), TypeName(field),
                         field.is_repeated() ? "empty" : fallback, range);
}

}  // namespace

std::string MarkdownReference() {
  std::string text;
  const Descriptor& root = *v1::Config::descriptor();
  for (int i = 0; i < root.field_count(); ++i) {
    const FieldDescriptor& section = *root.field(i);
    text += absl::StrFormat("\n### %s\n\n| key | type | default | accepted |\n|---|---|---|---|\n",
                            section.name());
    for (int j = 0; j < section.message_type()->field_count(); ++j) {
      text += Row(section.name(), *section.message_type()->field(j));
    }
  }
  return text;
}

}  // namespace bdh::config
