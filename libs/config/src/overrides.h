#pragma once

#include <map>
#include <string>
#include <string_view>

#include "findings.h"
#include "schema.h"

namespace bdh::config {

// Applies one "a.b=value".
void ApplySet(std::string_view assignment, std::string_view origin, Findings& findings, Message& out);

// Applies the BDH_* variables that belong to the schema. One that begins like a section and matches no field
// is a problem; others are none of our business.
void ApplyEnvironment(const std::map<std::string, std::string>& environment, Findings& findings,
                      Message& out);

}  // namespace bdh::config
