#include "tests/protos/compatibility.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace bdh::protos {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

constexpr char kOrNewPackage[] = "; a change that cannot do so is a new package, bdh.v2, beside this one";

// "repeated bdh.v1.TensorInfo", "optional int64"
std::string TypeText(const FieldDescriptor& field) {
  std::string text;
  if (field.is_repeated()) text = "repeated ";
  if (field.has_optional_keyword()) text = "optional ";
  if (field.message_type() != nullptr) return text + field.message_type()->full_name();
  if (field.enum_type() != nullptr) return text + field.enum_type()->full_name();
  return text + field.type_name();
}

std::string OneofText(const FieldDescriptor& field) {
  return field.real_containing_oneof() == nullptr ? "no oneof"
                                                  : "oneof " + field.real_containing_oneof()->name();
}

int NextFree(const Descriptor& message) {
  int highest = 0;
  for (int i = 0; i < message.field_count(); ++i) highest = std::max(highest, message.field(i)->number());
  for (int i = 0; i < message.reserved_range_count(); ++i) {
    highest = std::max(highest, message.reserved_range(i)->end - 1);  // The end is beyond the range.
  }
  return highest + 1;
}

int NextFree(const EnumDescriptor& type) {
  int highest = 0;
  for (int i = 0; i < type.value_count(); ++i) highest = std::max(highest, type.value(i)->number());
  for (int i = 0; i < type.reserved_range_count(); ++i) {
    highest = std::max(highest, type.reserved_range(i)->end);  // Inclusive, unlike a message's.
  }
  return highest + 1;
}

class Comparison {
 public:
  explicit Comparison(const FileDescriptor& released) : file_(released.name()) {}

  void File(const FileDescriptor& then, const FileDescriptor* now) {
    if (now == nullptr) return Say("the file is gone; keep it", kOrNewPackage);
    if (then.package() != now->package()) {
      return Say(absl::StrFormat("its package was %s and is %s now; keep it", then.package(), now->package()),
                 kOrNewPackage);
    }
    for (int i = 0; i < then.message_type_count(); ++i) {
      Message(*then.message_type(i), now->FindMessageTypeByName(then.message_type(i)->name()));
    }
    for (int i = 0; i < then.enum_type_count(); ++i) {
      Enum(*then.enum_type(i), now->FindEnumTypeByName(then.enum_type(i)->name()));
    }
    for (int i = 0; i < then.service_count(); ++i) {
      Service(*then.service(i), now->FindServiceByName(then.service(i)->name()));
    }
    for (int i = 0; i < then.extension_count(); ++i) {
      Extension(*then.extension(i), now->FindExtensionByName(then.extension(i)->name()));
    }
  }

  std::vector<std::string> Take() { return std::move(found_); }

 private:
  void Say(const std::string& sentence, const char* more = "") {
    found_.push_back(file_ + ": " + sentence + more);
  }

  void Message(const Descriptor& then, const Descriptor* now) {
    if (now == nullptr)
      return Say(absl::StrFormat("message %s is gone; keep it", then.full_name()), kOrNewPackage);
    for (int i = 0; i < then.field_count(); ++i) Field(*then.field(i), *now);
    for (int i = 0; i < then.reserved_range_count(); ++i) {
      const Descriptor::ReservedRange& range = *then.reserved_range(i);
      for (int f = 0; f < now->field_count(); ++f) {
        const FieldDescriptor& field = *now->field(f);
        if (field.number() >= range.start && field.number() < range.end) Reused(field, *now);
      }
    }
    for (int i = 0; i < then.reserved_name_count(); ++i) {
      if (const auto* const field = now->FindFieldByName(then.reserved_name(i)); field != nullptr) {
        Say(absl::StrFormat("%s: field %s takes a name that was reserved; give it another", now->full_name(),
                            field->name()));
      }
    }
    for (int i = 0; i < then.nested_type_count(); ++i) {
      Message(*then.nested_type(i), now->FindNestedTypeByName(then.nested_type(i)->name()));
    }
    for (int i = 0; i < then.enum_type_count(); ++i) {
      Enum(*then.enum_type(i), now->FindEnumTypeByName(then.enum_type(i)->name()));
    }
  }

  void Reused(const FieldDescriptor& field, const Descriptor& message) {
    Say(absl::StrFormat("%s: field %s takes number %d, which was reserved; give it the next free one, %d",
                        message.full_name(), field.name(), field.number(), NextFree(message)));
  }

  void Field(const FieldDescriptor& then, const Descriptor& message) {
    const FieldDescriptor* const now = message.FindFieldByNumber(then.number());
    const FieldDescriptor* const named = message.FindFieldByName(then.name());
    if (named != nullptr && named->number() != then.number()) {
      return Say(absl::StrFormat("%s: field %s had number %d and has %d now; give it its number back",
                                 message.full_name(), then.name(), then.number(), named->number()));
    }
    if (now == nullptr) return Removed(then, message);
    if (now->name() != then.name()) {
      return Say(
          absl::StrFormat("%s: number %d was field %s and is %s now; give %s the next free number, %d, and "
                          "write: reserved %d; reserved \"%s\";",
                          message.full_name(), then.number(), then.name(), now->name(), now->name(),
                          NextFree(message), then.number(), then.name()));
    }
    if (TypeText(then) != TypeText(*now)) {
      return Say(absl::StrFormat(
          "%s: field %s was %s and is %s now; keep it, and add a field with another name and "
          "the next free number, %d",
          message.full_name(), then.name(), TypeText(then), TypeText(*now), NextFree(message)));
    }
    if (OneofText(then) != OneofText(*now)) {
      Say(absl::StrFormat("%s: field %s was in %s and is in %s now; leave it where it was",
                          message.full_name(), then.name(), OneofText(then), OneofText(*now)));
    }
  }

  void Removed(const FieldDescriptor& then, const Descriptor& message) {
    if (message.IsReservedNumber(then.number()) && message.IsReservedName(then.name())) return;
    Say(absl::StrFormat(
        "%s: field %s, number %d, is gone, and others may take its place; write: reserved %d; "
        "reserved \"%s\";",
        message.full_name(), then.name(), then.number(), then.number(), then.name()));
  }

  void Enum(const EnumDescriptor& then, const EnumDescriptor* now) {
    if (now == nullptr)
      return Say(absl::StrFormat("enum %s is gone; keep it", then.full_name()), kOrNewPackage);
    for (int i = 0; i < then.value_count(); ++i) Value(*then.value(i), *now);
    for (int i = 0; i < now->value_count(); ++i) {
      const EnumValueDescriptor& value = *now->value(i);
      if (!then.IsReservedNumber(value.number())) continue;
      Say(absl::StrFormat("%s: value %s takes number %d, which was reserved; give it the next free one, %d",
                          now->full_name(), value.name(), value.number(), NextFree(*now)));
    }
  }

  void Value(const EnumValueDescriptor& then, const EnumDescriptor& type) {
    const EnumValueDescriptor* const now = type.FindValueByName(then.name());
    if (now != nullptr && now->number() == then.number()) return;
    if (now != nullptr) {
      return Say(absl::StrFormat("%s: value %s was %d and is %d now; give it its number back",
                                 type.full_name(), then.name(), then.number(), now->number()));
    }
    if (const auto* const other = type.FindValueByNumber(then.number()); other != nullptr) {
      return Say(
          absl::StrFormat("%s: number %d was value %s and is %s now; give %s the next free number, %d, and "
                          "write: reserved %d; reserved \"%s\";",
                          type.full_name(), then.number(), then.name(), other->name(), other->name(),
                          NextFree(type), then.number(), then.name()));
    }
    if (type.IsReservedNumber(then.number()) && type.IsReservedName(then.name())) return;
    Say(absl::StrFormat(
        "%s: value %s, number %d, is gone, and others may take its place; write: reserved %d; "
        "reserved \"%s\";",
        type.full_name(), then.name(), then.number(), then.number(), then.name()));
  }

  void Service(const ServiceDescriptor& then, const ServiceDescriptor* now) {
    if (now == nullptr)
      return Say(absl::StrFormat("service %s is gone; keep it", then.full_name()), kOrNewPackage);
    for (int i = 0; i < then.method_count(); ++i) {
      Method(*then.method(i), now->FindMethodByName(then.method(i)->name()), *now);
    }
  }

  static std::string Signature(const MethodDescriptor& method) {
    return absl::StrFormat("(%s%s) returns (%s%s)", method.client_streaming() ? "stream " : "",
                           method.input_type()->full_name(), method.server_streaming() ? "stream " : "",
                           method.output_type()->full_name());
  }

  void Method(const MethodDescriptor& then, const MethodDescriptor* now, const ServiceDescriptor& service) {
    if (now == nullptr) {
      return Say(
          absl::StrFormat("%s: method %s is gone; keep it, and let it answer UNIMPLEMENTED with what to call "
                          "instead",
                          service.full_name(), then.name()));
    }
    if (Signature(then) == Signature(*now)) return;
    Say(absl::StrFormat("%s: method %s was %s and is %s now; keep it, and add a method with another name",
                        service.full_name(), then.name(), Signature(then), Signature(*now)));
  }

  void Extension(const FieldDescriptor& then, const FieldDescriptor* now) {
    if (now != nullptr && now->number() == then.number() && TypeText(then) == TypeText(*now)) return;
    Say(absl::StrFormat("extension %s, number %d, is gone or has changed; keep it as it was",
                        then.full_name(), then.number()));
  }

  const std::string file_;
  std::vector<std::string> found_;
};

}  // namespace

std::vector<std::string> Incompatibilities(const FileDescriptor& released, const FileDescriptor* now) {
  Comparison comparison(released);
  comparison.File(released, now);
  return comparison.Take();
}

}  // namespace bdh::protos
