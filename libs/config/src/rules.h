// Rules that tie keys to one another. Each is a sentence for the reference page and a check.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "schema.h"

namespace bdh::config {

struct Rule {
  // The message the keys are paths in: a section, or all of Config.
  const Descriptor* section;
  // The rule is asked when all of them hold a value, or any of them, as `when` says.
  std::vector<std::string> keys;
  // For people: "`train.warmup_steps` is less than ...".
  std::string text;
  // What is wrong, as a whole sentence, or empty. `path` is the section's.
  std::function<std::string(const Message& section, const std::string& path)> broken;
  enum class When { kAll, kAny } when = When::kAll;
};

const std::vector<Rule>& Rules();

// Calls `found(sentence, rule, path)` for every broken rule of the message, whose path is `path`, and of
// those below it. `ask` says whether a rule is to be asked at all.
void CheckRules(const Message& message, const std::string& path,
                const std::function<bool(const Rule&, const std::string& path)>& ask,
                const std::function<void(const std::string&, const Rule&, const std::string& path)>& found);

}  // namespace bdh::config
