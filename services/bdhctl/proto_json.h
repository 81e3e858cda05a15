#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>

namespace bdh::bdhctl {

// A message as JSON for people's scripts: the proto's field names, numbers as numbers, enum values as
// "running" for STATE_RUNNING, timestamps as RFC 3339, secrets as "***". Optional fields that are not set are
// left out; all others are there.
nlohmann::ordered_json ToJson(const google::protobuf::Message& message);

}  // namespace bdh::bdhctl
