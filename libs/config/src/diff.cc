#include "bdh/config/config.h"
#include "schema.h"
#include "yaml_writer.h"

namespace bdh::config {
namespace {

void Compare(const Message& left, const Message& right, const std::string& path,
             std::vector<Difference>& differences) {
  const Descriptor& type = *left.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string key = JoinPath(path, field.name());
    if (IsSection(field)) {
      Compare(left.GetReflection()->GetMessage(left, &field),
              right.GetReflection()->GetMessage(right, &field), key, differences);
    } else if (ValueText(left, field, Secrets::kShow) != ValueText(right, field, Secrets::kShow)) {
      differences.push_back(
          {key, ValueText(left, field, Secrets::kHide), ValueText(right, field, Secrets::kHide)});
    }
  }
}

}  // namespace

std::vector<Difference> Diff(const v1::Config& left, const v1::Config& right) {
  std::vector<Difference> differences;
  Compare(left, right, "", differences);
  return differences;
}

}  // namespace bdh::config
