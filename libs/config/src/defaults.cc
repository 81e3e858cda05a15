#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/config/config.h"
#include "rules.h"
#include "schema.h"

namespace bdh::config {
namespace {

void FillField(const FieldDescriptor& field, Message& message) {
  const auto& reflection = *message.GetReflection();
  if (IsSection(field)) {
    // A oneof holds the one member that was chosen: none is made up here.
    if (field.real_containing_oneof() != nullptr && !reflection.HasField(message, &field)) return;
    FillDefaults(*reflection.MutableMessage(&message, &field));
  } else if (!field.is_repeated() && RuleOf(field).has_default_value() &&
             !reflection.HasField(message, &field)) {
    const std::string problem = StoreScalar(field, RuleOf(field).default_value(), /*quoted=*/false, message);
    BDH_CHECK(problem.empty()) << "default of " << field.full_name() << " " << problem;
  }
}

absl::Status ValidateFields(const Message& message, std::string_view path);

absl::Status CheckField(const Message& message, const FieldDescriptor& field, const std::string& path) {
  const auto& reflection = *message.GetReflection();
  const bool many = field.is_repeated();
  const int count = many ? reflection.FieldSize(message, &field) : reflection.HasField(message, &field);
  for (int i = 0; i < count; ++i) {
    const std::string item = many ? absl::StrFormat("%s[%d]", path, i) : path;
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      const absl::Status below = ValidateFields(
          many ? reflection.GetRepeatedMessage(message, &field, i) : reflection.GetMessage(message, &field),
          item);
      if (!below.ok()) return below;
    } else if (const std::string problem = CheckScalar(message, field, many ? i : -1); !problem.empty()) {
      return absl::InvalidArgumentError(item + " " + problem);
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateFields(const Message& message, std::string_view path) {
  const Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const absl::Status status = CheckField(message, *type.field(i), JoinPath(path, type.field(i)->name()));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

void FillDefaults(google::protobuf::Message& message) {
  const Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) FillField(*type.field(i), message);
}

absl::Status Validate(const google::protobuf::Message& message, std::string_view path) {
  absl::Status status = ValidateFields(message, path);
  if (!status.ok()) return status;
  CheckRules(
      message, std::string(path), [](const Rule&, const std::string&) { return true; },
      [&status](const std::string& problem, const Rule&, const std::string&) {
        if (status.ok()) status = absl::InvalidArgumentError(problem);
      });
  return status;
}

}  // namespace bdh::config
