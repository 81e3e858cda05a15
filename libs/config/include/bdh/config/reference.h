#pragma once

#include <string>

namespace bdh::config {

// Every key of the schema as Markdown: one table a section with type, default, range and variable. It is the
// second half of docs/api_reference/config.md; reference_test compares the two.
std::string MarkdownReference();

}  // namespace bdh::config
