// The mesh's tokens in a file, one a line: the first is shown to others, all are accepted.
//
//   # comments and empty lines do not count
//   3f6c...                     a token that all share
//   bdh-gateway 91ab...         a token with a name: who shows it is bdh-gateway
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::mesh {

struct Token {
  std::string name;  // Empty: of nobody in particular.
  std::string secret;
};

using Tokens = std::vector<Token>;

// InvalidArgumentError: a line is not of that form, or there is no token. Never shows a secret.
absl::StatusOr<Tokens> ParseTokens(std::string_view text);
std::string FormatTokens(const Tokens& tokens);
// ParseTokens of a file. FailedPreconditionError: everybody can read it.
absl::StatusOr<Tokens> ReadTokens(const std::string& file);

// What `name` shows to others: the first token with its name, or else the first.
const Token& TokenToShow(const Tokens& tokens, std::string_view name);

}  // namespace bdh::mesh
