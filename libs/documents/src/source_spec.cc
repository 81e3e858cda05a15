#include "bdh/documents/source_spec.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "well_known.h"

namespace bdh::documents {
namespace {

constexpr size_t kSpecBytesMax = size_t{1} << 20;

using Setter = std::function<absl::Status(const YAML::Node&, SourceSpec&)>;

absl::Status Text(const YAML::Node& node, std::string& out) {
  if (!node.IsScalar()) return absl::InvalidArgumentError("want a text");
  out = node.as<std::string>();
  return absl::OkStatus();
}

absl::Status Texts(const YAML::Node& node, std::vector<std::string>& out) {
  if (node.IsScalar()) {
    out = {node.as<std::string>()};
    return absl::OkStatus();
  }
  if (!node.IsSequence()) return absl::InvalidArgumentError("want a text or a list of texts");
  out.clear();
  for (const YAML::Node& item : node) BDH_RETURN_IF_ERROR(Text(item, out.emplace_back()));
  return absl::OkStatus();
}

template <class Value>
absl::Status Convert(const YAML::Node& node, std::string_view what, Value& out) {
  try {
    out = node.as<Value>();
    return absl::OkStatus();
  } catch (const YAML::Exception&) {
    return absl::InvalidArgumentError(absl::StrFormat("want %s", what));
  }
}

template <class Value>
absl::Status Named(const YAML::Node& node, absl::StatusOr<Value> (*parse)(std::string_view), Value& out) {
  std::string name;
  BDH_RETURN_IF_ERROR(Text(node, name));
  BDH_ASSIGN_OR_RETURN(out, parse(name));
  return absl::OkStatus();
}

Setter TextKey(std::string SourceSpec::*field) {
  return [=](const YAML::Node& node, SourceSpec& spec) { return Text(node, spec.*field); };
}
Setter TextOption(std::string Options::*field) {
  return [=](const YAML::Node& node, SourceSpec& spec) { return Text(node, spec.options.*field); };
}
Setter TextsOption(std::vector<std::string> Options::*field) {
  return [=](const YAML::Node& node, SourceSpec& spec) { return Texts(node, spec.options.*field); };
}
Setter FlagOption(bool Options::*field) {
  return [=](const YAML::Node& node, SourceSpec& spec) {
    return Convert(node, "true or false", spec.options.*field);
  };
}
Setter BytesOption(int64_t Options::*field) {
  return [=](const YAML::Node& node, SourceSpec& spec) {
    return Convert(node, "a number of bytes", spec.options.*field);
  };
}

const std::map<std::string, Setter, std::less<>>& Keys() {
  static const auto& keys = *new std::map<std::string, Setter, std::less<>>{
      {"name", TextKey(&SourceSpec::name)},
      {"description", TextKey(&SourceSpec::description)},
      {"license", TextKey(&SourceSpec::license)},
      {"size", TextKey(&SourceSpec::size)},
      {"split", TextKey(&SourceSpec::split)},
      {"source", [](const YAML::Node& node, SourceSpec& spec) { return Texts(node, spec.sources); }},
      {"sources", [](const YAML::Node& node, SourceSpec& spec) { return Texts(node, spec.sources); }},
      {"format", [](const YAML::Node& node,
                    SourceSpec& spec) { return Named(node, ParseFormat, spec.options.format); }},
      {"utf8", [](const YAML::Node& node,
                  SourceSpec& spec) { return Named(node, ParseUtf8Policy, spec.options.utf8); }},
      {"split_text", [](const YAML::Node& node,
                        SourceSpec& spec) { return Named(node, ParseTextSplit, spec.options.split); }},
      {"min_word_share",
       [](const YAML::Node& node, SourceSpec& spec) {
         return Convert(node, "a number from 0 to 1", spec.options.min_word_share);
       }},
      {"column", TextOption(&Options::text_column)},
      {"score_column", TextOption(&Options::score_column)},
      {"separator", TextOption(&Options::separator)},
      {"csv_header", FlagOption(&Options::csv_header)},
      {"strip_bom", FlagOption(&Options::strip_bom)},
      {"unix_line_ends", FlagOption(&Options::unix_line_ends)},
      {"nfc", FlagOption(&Options::nfc)},
      {"dedupe", FlagOption(&Options::dedupe)},
      {"drop_too_long", FlagOption(&Options::drop_too_long)},
      {"min_bytes", BytesOption(&Options::min_bytes)},
      {"max_bytes", BytesOption(&Options::max_bytes)},
      {"max_document_bytes", BytesOption(&Options::max_document_bytes)},
      {"must_contain", TextsOption(&Options::must_contain)},
      {"must_not_contain", TextsOption(&Options::must_not_contain)},
  };
  return keys;
}

std::string Where(std::string_view origin, const YAML::Mark& mark) {
  return mark.is_null() ? absl::StrFormat("%s: ", origin) : absl::StrFormat("%s:%d: ", origin, mark.line + 1);
}

absl::Status SetKey(std::string_view origin, const YAML::Node& key, const YAML::Node& value,
                    SourceSpec& spec) {
  const std::string where = Where(origin, key.Mark());
  std::string name;
  if (const absl::Status named = Text(key, name); !named.ok()) {
    return absl::InvalidArgumentError(absl::StrFormat("%sa key is no text", where));
  }
  const auto setter = Keys().find(name);
  if (setter == Keys().end()) {
    std::string all;
    for (const auto& [known, unused] : Keys())
      absl::StrAppendFormat(&all, "%s%s", all.empty() ? "" : ", ", known);
    return absl::InvalidArgumentError(absl::StrFormat("%s%s: unknown key; want one of %s", where, name, all));
  }
  const absl::Status set = setter->second(value, spec);
  if (set.ok()) return set;
  return absl::InvalidArgumentError(absl::StrFormat("%s%s: %s", where, name, set.message()));
}

absl::Status CheckSpec(std::string_view origin, const SourceSpec& spec) {
  if (!IsResourceName(spec.name)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: name is '%s'; want 1 to 64 of [a-z0-9._-], beginning with a letter or digit",
                        origin, spec.name));
  }
  if (spec.sources.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: there is no source; want hf://datasets/..., https://... or an absolute path", origin));
  }
  return Annotate(Check(spec.options), origin);
}

}  // namespace

absl::StatusOr<SourceSpec> ParseSourceSpec(std::string_view yaml, std::string_view origin) {
  if (yaml.size() > kSpecBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: longer than %s", origin, FormatBytes(kSpecBytesMax)));
  }
  SourceSpec spec;
  try {
    const YAML::Node root = YAML::Load(std::string(yaml));
    if (!root.IsMap()) return absl::InvalidArgumentError(absl::StrFormat("%s: want keys and values", origin));
    for (const auto& item : root) BDH_RETURN_IF_ERROR(SetKey(origin, item.first, item.second, spec));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrFormat("%s%s", Where(origin, error.mark), error.msg));
  }
  BDH_RETURN_IF_ERROR(CheckSpec(origin, spec));
  return spec;
}

const std::vector<SourceSpec>& WellKnownSources() {
  static const auto& all = *[] {
    auto* const specs = new std::vector<SourceSpec>;
    for (const auto& [name, yaml] : kWellKnown) {
      const auto spec = ParseSourceSpec(yaml, name);
      BDH_CHECK(spec.ok()) << spec.status();
      specs->push_back(*spec);
    }
    return specs;
  }();
  return all;
}

absl::StatusOr<SourceSpec> FindWellKnownSource(std::string_view name) {
  std::string all;
  for (const SourceSpec& spec : WellKnownSources()) {
    if (spec.name == name) return spec;
    absl::StrAppendFormat(&all, "%s%s", all.empty() ? "" : ", ", spec.name);
  }
  return absl::NotFoundError(absl::StrFormat("there is no well-known set '%s'; there are %s", name, all));
}

}  // namespace bdh::documents
