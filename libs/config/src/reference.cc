#include "bdh/config/reference.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "comments.h"
#include "rules.h"
#include "schema.h"

namespace bdh::config {
namespace {

std::string Code(const std::string& text) {
  return text.empty() ? "" : "`" + text + "`";
}

std::string Row(const Leaf& leaf) {
  const FieldDescriptor& field = *leaf.field;
  const v1::FieldRule& rule = RuleOf(field);
  const std::string fallback = rule.has_default_value() ? Code(rule.default_value()) : "unset";
  std::string range = RangeText(field);
  if (range.empty() && !rule.unit().empty()) range = rule.unit();
  if (rule.secret()) range = "secret: printed as `***`";
  return absl::StrFormat("| %s | %s | %s | %s | %s |\n", Code(leaf.path), TypeName(field),
                         field.is_repeated() ? "empty" : fallback, range,
                         absl::StrReplaceAll(CommentOf(field), {{"|", "\\|"}}));
}

std::string Section(const FieldDescriptor& section) {
  std::string text = absl::StrFormat("\n### %s\n", section.name());
  const std::string comment = CommentOf(*section.message_type());
  if (!comment.empty()) text += "\n" + comment + "\n";
  text += "\n| key | type | default | accepted | what it is |\n|---|---|---|---|---|\n";
  for (const Leaf& leaf : Leaves(*section.message_type())) {
    text += Row({JoinPath(section.name(), leaf.path), leaf.field});
  }
  return text;
}

}  // namespace

std::string MarkdownReference() {
  std::string text;
  const Descriptor& root = *v1::Config::descriptor();
  for (int i = 0; i < root.field_count(); ++i) text += Section(*root.field(i));
  text += "\n### Rules across keys\n\n";
  for (const Rule& rule : Rules()) text += "* " + rule.text + "\n";
  return text;
}

}  // namespace bdh::config
