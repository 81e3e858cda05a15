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
  // Path of a YAML (or JSON) file. Empty: defaults alone.
  std::string file;
  // "train.max_steps=100", applied last, in order.
  std::vector<std::string> sets;
  // BDH_TRAIN_MAX_STEPS=100 and the like, applied between file and sets. Usually the process's environment;
  // see Environment().
  std::map<std::string, std::string> environment;
};

// Reads, overrides, checks, and fills in the defaults of every field not given.
// InvalidArgumentError: "file:line:column: train.max_stepps: unknown key; did you mean max_steps?" and the
// like.
absl::StatusOr<v1::Config> Load(const LoadOptions& options);

// Reads YAML text into any message of the schema, without defaults. `origin` names it in errors.
absl::Status ReadYaml(std::string_view yaml, std::string_view origin, google::protobuf::Message& out);

// Applies one "a.b=value"; `origin` names where it came from in errors ("--set").
absl::Status Set(std::string_view assignment, std::string_view origin, google::protobuf::Message& out);

// Fills every unset scalar that has a default, in the message and all messages below it.
void FillDefaults(google::protobuf::Message& message);

// Checks ranges and allowed values of what is set. The message begins with the field's path:
// "train.beta1 is 1.5; want 0 to 0.999999". For messages that came over the wire too.
absl::Status Validate(const google::protobuf::Message& message, std::string_view path = "");

enum class Secrets { kHide, kShow };

// As YAML that Load reads back to the same message. Secrets are printed as "***" unless shown: show them only
// in a file that nobody else can read.
std::string ToYaml(const google::protobuf::Message& message, Secrets secrets = Secrets::kHide);

// The process's variables that begin with BDH_.
std::map<std::string, std::string> Environment();

}  // namespace bdh::config
