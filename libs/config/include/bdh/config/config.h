// Configuration: YAML text, BDH_* variables and --set overrides become one checked bdh.v1.Config.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/v1/config.pb.h"

namespace bdh::config {

struct LoadOptions {
  // Path of a YAML (or JSON) file, which may extend others. Empty: defaults alone.
  std::string file;
  // "train.max_steps=100", applied last, in order.
  std::vector<std::string> sets;
  // BDH_TRAIN_MAX_STEPS=100 and the like, applied between file and sets. Usually the process's environment;
  // see Environment().
  std::map<std::string, std::string> environment;
};

// Reads, overrides, fills in the defaults of every field not given, and checks.
// InvalidArgumentError: "file:line:column: train.max_stepps: unknown key; did you mean max_steps?" and the
// like, about the first problem.
absl::StatusOr<v1::Config> Load(const LoadOptions& options);

struct Loaded {
  v1::Config config;
  // Where the value of each key came from: "default", "my.yaml:3", "--set", "BDH_TRAIN_MAX_STEPS".
  std::map<std::string, std::string> origins;
};
absl::StatusOr<Loaded> LoadWithOrigins(const LoadOptions& options);

// All that Load has to say against it, at most 100 sentences. Empty: nothing.
std::vector<std::string> Problems(const LoadOptions& options);

// Reads a file and those it extends, without defaults: what was given, and no more.
absl::Status ReadFileInto(const std::string& path, google::protobuf::Message& out);

// Reads YAML text into any message of the schema, without defaults. `origin` names it in errors. The text may
// have come over the wire: it reaches no other file and no variable.
absl::Status ReadYaml(std::string_view yaml, std::string_view origin, google::protobuf::Message& out);

// Applies one "a.b=value"; `origin` names where it came from in errors ("--set").
absl::Status Set(std::string_view assignment, std::string_view origin, google::protobuf::Message& out);

// Fills every unset scalar that has a default, in the message and all messages below it.
void FillDefaults(google::protobuf::Message& message);

// Checks ranges, allowed values and rules across keys of what is set. The message begins with the field's
// path: "train.beta1 is 1.5; want 0 to 0.999999". For messages that came over the wire too.
absl::Status Validate(const google::protobuf::Message& message, std::string_view path = "");

enum class Secrets { kHide, kShow };

// As YAML that Load reads back to the same message. Secrets are printed as "***" unless shown: show them only
// in a file that nobody else can read.
std::string ToYaml(const google::protobuf::Message& message, Secrets secrets = Secrets::kHide);

// The same with a comment behind each key that says where its value came from. Secrets are hidden.
std::string ToYaml(const Loaded& loaded);

// A key that two configurations have different values for: as YAML, empty where it is unset, secrets as
// "***".
struct Difference {
  std::string path;
  std::string left;
  std::string right;
};
// In the order of the schema.
std::vector<Difference> Diff(const v1::Config& left, const v1::Config& right);

// The process's variables that begin with BDH_.
std::map<std::string, std::string> Environment();

}  // namespace bdh::config
