#pragma once

#include <string>

namespace bdh::config {

// Every key of the schema as Markdown, one table a section, and the rules across keys: the second half of
// docs/api_reference/config.md. files_test compares the two.
std::string MarkdownReference();

// The schema as JSON Schema 2020-12, for editors: configs/bdh.schema.json. It knows types, ranges, units and
// what each key is for; rules across keys are told, not checked.
std::string JsonSchema();

}  // namespace bdh::config
