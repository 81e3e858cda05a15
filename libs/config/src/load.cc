#include <unistd.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/config/config.h"
#include "file_reader.h"
#include "findings.h"
#include "overrides.h"
#include "rules.h"
#include "schema.h"

namespace bdh::config {
namespace {

// A rule's problem stands where the first of its keys was given that was given at all.
void FindBrokenRules(const v1::Config& config, Findings& findings) {
  const auto ask = [&](const Rule& rule, const std::string& path) {
    for (const std::string& key : rule.keys) {
      if (findings.IsBad(JoinPath(path, key))) return false;
    }
    return true;
  };
  const auto found = [&](const std::string& problem, const Rule& rule, const std::string& path) {
    for (const std::string& key : rule.keys) {
      const auto origin = findings.origins.find(JoinPath(path, key));
      if (origin == findings.origins.end()) continue;
      return findings.Add(absl::InvalidArgumentError(origin->second + ": " + problem));
    }
    findings.Add(absl::InvalidArgumentError(problem));
  };
  CheckRules(config, "", ask, found);
}

void AddDefaultOrigins(const Message& message, const std::string& path, Findings& findings) {
  const Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string key = JoinPath(path, field.name());
    if (field.is_repeated() || !message.GetReflection()->HasField(message, &field)) continue;
    if (IsSection(field)) {
      AddDefaultOrigins(message.GetReflection()->GetMessage(message, &field), key, findings);
    } else {
      findings.origins.emplace(key, "default");
    }
  }
}

v1::Config LoadInto(const LoadOptions& options, Findings& findings) {
  v1::Config config;
  if (!options.file.empty()) FileReader(findings, config).Read(options.file);
  ApplyEnvironment(options.environment, findings, config);
  for (const std::string& set : options.sets) ApplySet(set, "--set", findings, config);
  FillDefaults(config);
  FindBrokenRules(config, findings);
  return config;
}

}  // namespace

absl::StatusOr<Loaded> LoadWithOrigins(const LoadOptions& options) {
  Findings findings;
  v1::Config config = LoadInto(options, findings);
  if (!findings.problems().empty()) return findings.First();
  AddDefaultOrigins(config, "", findings);
  return Loaded{std::move(config), std::move(findings.origins)};
}

absl::StatusOr<v1::Config> Load(const LoadOptions& options) {
  auto loaded = LoadWithOrigins(options);
  if (!loaded.ok()) return loaded.status();
  return std::move(loaded->config);
}

std::vector<std::string> Problems(const LoadOptions& options) {
  Findings findings;
  LoadInto(options, findings);
  std::vector<std::string> sentences;
  for (const absl::Status& problem : findings.problems()) sentences.emplace_back(problem.message());
  return sentences;
}

absl::Status ReadFileInto(const std::string& path, google::protobuf::Message& out) {
  Findings findings;
  FileReader(findings, out).Read(path);
  return findings.First();
}

std::map<std::string, std::string> Environment() {
  std::map<std::string, std::string> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (text.starts_with("BDH_") && equals != std::string_view::npos) {
      found.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return found;
}

}  // namespace bdh::config
