// Regular expressions of tokenizer.json files. They are written for Oniguruma; here PCRE2 runs them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::tokenizer {

// What differs between the two is written out before PCRE2 sees it: \p{..}, \w, \d, \s and their complements
// become the ranges of unicode_tables.inc, whatever Unicode version PCRE2 has; ^ and $ match at every line;
// "{n,m}+" is a repetition of a repetition, not a possessive one; \h is a hexadecimal digit.
class Regex {
 public:
  // InvalidArgumentError: PCRE2 cannot read it, or a construct that the two take differently.
  static absl::StatusOr<std::shared_ptr<const Regex>> Compile(const std::string& pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Calls `match` with begin and end of each match, left to right. A match that takes too many steps ends the
  // search: what is left is taken as not matching.
  void ForEach(std::string_view text, const std::function<void(size_t, size_t)>& match) const;

 private:
  explicit Regex(void* code) : code_(code) {}
  void* const code_;
};

// As PCRE2 shall read it. Separate so that it can be tested.
absl::StatusOr<std::string> TranslatedPattern(std::string_view pattern);

}  // namespace bdh::tokenizer
