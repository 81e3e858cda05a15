#include "schema.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/text.h"
#include "units.h"

namespace bdh::config {
namespace {

using CppType = FieldDescriptor::CppType;

// Text that is shown in errors and masks a secret in printed configuration.
constexpr std::string_view kMask = "***";

bool IsInteger(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case CppType::CPPTYPE_INT32:
    case CppType::CPPTYPE_INT64:
    case CppType::CPPTYPE_UINT32:
    case CppType::CPPTYPE_UINT64:
      return true;
    default:
      return false;
  }
}

// "a, b or c"
std::string Alternatives(const google::protobuf::RepeatedPtrField<std::string>& words) {
  std::string text;
  for (int i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

// A whole number's digits with a sign and nothing else. No 0x10, no 1_000, and no 010, which some readers
// of YAML take for eight.
bool LooksLikeInteger(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// A sign, then digits, a point and an exponent; keeps "inf", "nan" and hexadecimal away from from_chars.
bool LooksLikeNumber(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  return text.find_first_not_of("0123456789+-.eE") == std::string_view::npos &&
         text.find_first_of("0123456789.") == 0 && text.find_first_of("0123456789") != std::string_view::npos;
}

enum class Parsed { kOk, kMalformed, kOverflow };

template <class T>
Parsed ParseNumber(std::string_view text, T& value) {
  if (text[0] == '+') text.remove_prefix(1);
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc::result_out_of_range && stop == end) return Parsed::kOverflow;
  return error == std::errc() && stop == end ? Parsed::kOk : Parsed::kMalformed;
}

// The type's own limits; what the rule says is checked on the stored value.
template <class T>
std::string OutsideType(const FieldDescriptor& field, std::string_view text) {
  std::string range = RangeText(field);
  if (range.empty() || !RuleOf(field).has_max()) {
    const v1::FieldRule& rule = RuleOf(field);
    const T low = rule.has_min() ? static_cast<T>(rule.min()) : std::numeric_limits<T>::lowest();
    const std::string unit = rule.unit().empty() ? "" : " " + rule.unit();
    range = absl::StrFormat("%d to %d%s", low, std::numeric_limits<T>::max(), unit);
  }
  return absl::StrFormat("is %s; want %s", Shown(field, text), range);
}

std::string NotA(const FieldDescriptor& field, std::string_view text) {
  return absl::StrFormat("is %s; want %s", Shown(field, text), Wanted(field));
}

// Of a number with something behind it that is no unit of this key.
std::string NoUnit(const FieldDescriptor& field, std::string_view text) {
  const std::string units = UnitsOf(RuleOf(field).unit());
  return NotA(field, text) + (units.empty() ? "; it takes no unit" : "; units: " + units);
}

// A number with a unit, into `value`; like 256MiB.
template <class T>
std::string ReadQuantity(const FieldDescriptor& field, std::string_view text, T& value) {
  switch (ParseQuantity(text, RuleOf(field).unit(), value)) {
    case Quantity::kOk:
      return "";
    case Quantity::kUnknownUnit:
      return NoUnit(field, text);
    case Quantity::kFraction:
      return absl::StrFormat("is %s, not a whole number of %s; want %s", Shown(field, text),
                             RuleOf(field).unit(), Wanted(field));
    case Quantity::kOverflow:
      break;
  }
  return absl::StrFormat("is %s; want %s", Shown(field, text), Wanted(field));
}

template <class T, class Store>
std::string StoreInteger(const FieldDescriptor& field, std::string_view text, Store store) {
  if (LooksLikeQuantity(text)) {
    int64_t quantity = 0;
    if (const std::string problem = ReadQuantity(field, text, quantity); !problem.empty()) return problem;
    if (!std::in_range<T>(quantity)) return OutsideType<T>(field, text);
    store(static_cast<T>(quantity));
    return "";
  }
  if (!LooksLikeInteger(text)) return NotA(field, text);
  T value = 0;
  // from_chars knows no minus for unsigned types; to us it is a number outside the range.
  if (std::is_unsigned_v<T> && text[0] == '-') return OutsideType<T>(field, text);
  if (ParseNumber(text, value) != Parsed::kOk) return OutsideType<T>(field, text);
  store(value);
  return "";
}

template <class Store>
std::string StoreDouble(const FieldDescriptor& field, std::string_view text, Store store) {
  double value = 0;
  if (!LooksLikeNumber(text) && LooksLikeQuantity(text)) {
    if (const std::string problem = ReadQuantity(field, text, value); !problem.empty()) return problem;
    store(value);
    return "";
  }
  const Parsed parsed = LooksLikeNumber(text) ? ParseNumber(text, value) : Parsed::kMalformed;
  if (parsed == Parsed::kMalformed) return NotA(field, text);
  if (parsed == Parsed::kOverflow) {
    return absl::StrFormat("is %s, which no double can hold; want %s", Shown(field, text), Wanted(field));
  }
  store(value);
  return "";
}

template <class Store>
std::string StoreText(const FieldDescriptor& field, std::string_view text, Store store) {
  if (!IsUtf8(text)) return "is not UTF-8 text";
  if (RuleOf(field).secret() && text == kMask) {
    return "is ***, the mask that printed configuration shows; give the secret itself";
  }
  store(std::string(text));
  return "";
}

template <class Number>
std::string CheckNumber(const FieldDescriptor& field, Number value) {
  const v1::FieldRule& rule = RuleOf(field);
  // long double holds every 64-bit integer exactly.
  const auto wide = static_cast<long double>(value);
  const bool low = rule.has_min() && wide < static_cast<long double>(rule.min());
  const bool high = rule.has_max() && wide > static_cast<long double>(rule.max());
  if (!low && !high) return "";
  std::string shown;
  if constexpr (std::is_same_v<Number, double>) {
    shown = FormatDouble(value);
  } else {
    shown = absl::StrFormat("%d", value);
  }
  return absl::StrFormat("is %s; want %s", shown, RangeText(field));
}

std::string CheckText(const FieldDescriptor& field, const std::string& value) {
  if (value.find('\0') != std::string::npos) return "holds a NUL character; remove it";
  const auto& allowed = RuleOf(field).allowed();
  if (allowed.empty() || std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return "";
  return absl::StrFormat("is %s; want %s", Shown(field, value), RangeText(field));
}

int EditDistance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j < row.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

void CollectLeaves(const Descriptor& type, const std::string& path, std::vector<Leaf>& leaves) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string below = JoinPath(path, field.name());
    if (IsSection(field)) {
      CollectLeaves(*field.message_type(), below, leaves);
    } else {
      leaves.push_back({below, &field});
    }
  }
}

}  // namespace

const v1::FieldRule& RuleOf(const FieldDescriptor& field) {
  return field.options().GetExtension(v1::rule);
}

bool IsSection(const FieldDescriptor& field) {
  return field.cpp_type() == CppType::CPPTYPE_MESSAGE && !field.is_repeated();
}

std::string TypeName(const FieldDescriptor& field) {
  const std::string list = field.is_repeated() ? "list of " : "";
  if (IsInteger(field)) return list + "integer";
  switch (field.cpp_type()) {
    case CppType::CPPTYPE_DOUBLE:
      return list + "number";
    case CppType::CPPTYPE_BOOL:
      return list + "true or false";
    case CppType::CPPTYPE_MESSAGE:
      return list + "section";
    default:
      return list + "text";
  }
}

std::string RangeText(const FieldDescriptor& field) {
  const v1::FieldRule& rule = RuleOf(field);
  if (!rule.allowed().empty()) return Alternatives(rule.allowed());
  const auto number = [&](double value) {
    return IsInteger(field) ? absl::StrFormat("%.0f", value) : FormatDouble(value);
  };
  const std::string unit = rule.unit().empty() ? "" : " " + rule.unit();
  if (rule.has_min() && rule.has_max()) return number(rule.min()) + " to " + number(rule.max()) + unit;
  if (rule.has_min()) return number(rule.min()) + unit + " or more";
  if (rule.has_max()) return "at most " + number(rule.max()) + unit;
  return "";
}

std::string Wanted(const FieldDescriptor& field) {
  const std::string range = RangeText(field);
  if (field.is_repeated()) return "a list, like [a, b]";
  if (field.cpp_type() == CppType::CPPTYPE_BOOL) return "true or false";
  if (field.cpp_type() == CppType::CPPTYPE_MESSAGE) return "keys and values below it";
  if (field.cpp_type() == CppType::CPPTYPE_STRING) return range.empty() ? "text" : range;
  return (IsInteger(field) ? "an integer" : "a number") + (range.empty() ? "" : ", " + range);
}

std::string Shown(const FieldDescriptor& field, std::string_view text) {
  if (RuleOf(field).secret()) return std::string(kMask);
  constexpr size_t kMost = 60;
  if (text.empty()) return "empty";
  // What reads as a number is shown as one.
  if (field.cpp_type() != CppType::CPPTYPE_STRING && text.size() <= kMost && LooksLikeNumber(text)) {
    return std::string(text);
  }
  const bool cut = text.size() > kMost;
  if (cut) {
    size_t size = kMost;
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
    text = text.substr(0, size);
  }
  return "\"" + absl::Utf8SafeCHexEscape(absl::string_view(text.data(), text.size())) +
         (cut ? "...\"" : "\"");
}

std::string StoreScalar(const FieldDescriptor& field, std::string_view text, bool quoted, Message& out) {
  // JSON has no other way to write 256MiB.
  const bool is_quantity = LooksLikeQuantity(text) && field.cpp_type() != CppType::CPPTYPE_BOOL;
  if (field.cpp_type() != CppType::CPPTYPE_STRING && quoted && !is_quantity) {
    return absl::StrFormat("is %s in quotes; want %s, without quotes", Shown(field, text), Wanted(field));
  }
  const auto& reflection = *out.GetReflection();
  const bool many = field.is_repeated();
  std::string problem;
  switch (field.cpp_type()) {
    case CppType::CPPTYPE_INT32:
      problem = StoreInteger<int32_t>(field, text, [&](int32_t value) {
        many ? reflection.AddInt32(&out, &field, value) : reflection.SetInt32(&out, &field, value);
      });
      break;
    case CppType::CPPTYPE_INT64:
      problem = StoreInteger<int64_t>(field, text, [&](int64_t value) {
        many ? reflection.AddInt64(&out, &field, value) : reflection.SetInt64(&out, &field, value);
      });
      break;
    case CppType::CPPTYPE_UINT32:
      problem = StoreInteger<uint32_t>(field, text, [&](uint32_t value) {
        many ? reflection.AddUInt32(&out, &field, value) : reflection.SetUInt32(&out, &field, value);
      });
      break;
    case CppType::CPPTYPE_UINT64:
      problem = StoreInteger<uint64_t>(field, text, [&](uint64_t value) {
        many ? reflection.AddUInt64(&out, &field, value) : reflection.SetUInt64(&out, &field, value);
      });
      break;
    case CppType::CPPTYPE_DOUBLE:
      problem = StoreDouble(field, text, [&](double value) {
        many ? reflection.AddDouble(&out, &field, value) : reflection.SetDouble(&out, &field, value);
      });
      break;
    case CppType::CPPTYPE_BOOL:
      if (text != "true" && text != "false") return NotA(field, text);
      many ? reflection.AddBool(&out, &field, text == "true")
           : reflection.SetBool(&out, &field, text == "true");
      break;
    case CppType::CPPTYPE_STRING:
      problem = StoreText(field, text, [&](std::string value) {
        many ? reflection.AddString(&out, &field, std::move(value))
             : reflection.SetString(&out, &field, std::move(value));
      });
      break;
    default:
      return absl::StrFormat("is of a kind (%s) that YAML cannot give", field.cpp_type_name());
  }
  if (!problem.empty()) return problem;
  return CheckScalar(out, field, many ? reflection.FieldSize(out, &field) - 1 : -1);
}

std::string CheckScalar(const Message& message, const FieldDescriptor& field, int index) {
  const auto& reflection = *message.GetReflection();
  const bool many = index >= 0;
  switch (field.cpp_type()) {
    case CppType::CPPTYPE_INT32:
      return CheckNumber(field, many ? reflection.GetRepeatedInt32(message, &field, index)
                                     : reflection.GetInt32(message, &field));
    case CppType::CPPTYPE_INT64:
      return CheckNumber(field, many ? reflection.GetRepeatedInt64(message, &field, index)
                                     : reflection.GetInt64(message, &field));
    case CppType::CPPTYPE_UINT32:
      return CheckNumber(field, many ? reflection.GetRepeatedUInt32(message, &field, index)
                                     : reflection.GetUInt32(message, &field));
    case CppType::CPPTYPE_UINT64:
      return CheckNumber(field, many ? reflection.GetRepeatedUInt64(message, &field, index)
                                     : reflection.GetUInt64(message, &field));
    case CppType::CPPTYPE_DOUBLE: {
      const double value =
          many ? reflection.GetRepeatedDouble(message, &field, index) : reflection.GetDouble(message, &field);
      if (!std::isfinite(value)) {
        return absl::StrFormat("is %s; want %s", FormatDouble(value), Wanted(field));
      }
      return CheckNumber(field, value);
    }
    case CppType::CPPTYPE_STRING:
      if (field.type() == FieldDescriptor::TYPE_BYTES) return "";
      return CheckText(field, many ? reflection.GetRepeatedString(message, &field, index)
                                   : reflection.GetString(message, &field));
    default:
      return "";
  }
}

std::string Nearest(const std::vector<std::string>& candidates, std::string_view word) {
  constexpr size_t kLongestWord = 100;
  if (word.size() > kLongestWord) return "";
  std::string best;
  int best_distance = std::numeric_limits<int>::max();
  for (const std::string& candidate : candidates) {
    const int distance = EditDistance(candidate, word);
    const int most = static_cast<int>((candidate.size() + 2) / 3);
    if (distance <= most && distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string UnknownKey(const Descriptor& root, const Descriptor& section, std::string_view key) {
  std::vector<std::string> names;
  std::string known;
  for (int i = 0; i < section.field_count(); ++i) {
    names.push_back(section.field(i)->name());
    known += (i > 0 ? ", " : "") + names.back();
  }
  if (key == kExtends) return "unknown key; it belongs to the top level of a file";
  // A right name in the wrong place, if there is one place only.
  std::vector<std::string> elsewhere;
  for (const Leaf& leaf : Leaves(root)) {
    if (leaf.field->name() == key) elsewhere.push_back(leaf.path);
  }
  const std::string guess = elsewhere.size() == 1 ? elsewhere[0] : Nearest(names, key);
  if (!guess.empty()) return absl::StrFormat("unknown key; did you mean %s?", guess);
  return absl::StrFormat("unknown key; known here: %s", known);
}

std::vector<Leaf> Leaves(const Descriptor& root) {
  std::vector<Leaf> leaves;
  CollectLeaves(root, "", leaves);
  return leaves;
}

std::string JoinPath(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : absl::StrFormat("%s.%s", path, key);
}

std::string FormatDouble(double value) {
  std::array<char, 32> buffer;
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  BDH_CHECK(result.ec == std::errc());
  return {buffer.data(), result.ptr};
}

}  // namespace bdh::config
