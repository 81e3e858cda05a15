#include "bdh/mesh/token_file.h"

#include <sys/stat.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/base/text.h"
#include "private_file.h"

namespace bdh::mesh {
namespace {

constexpr size_t kSecretBytesMax = 4096;
constexpr size_t kTokensMax = 64;

bool IsSecret(absl::string_view text) {
  return text.size() <= kSecretBytesMax && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isgraph(static_cast<unsigned char>(c));
         });
}

}  // namespace

absl::StatusOr<Tokens> ParseTokens(std::string_view text) {
  Tokens tokens;
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    const std::string name(words.size() == 2 ? words[0] : "");
    if (words.size() > 2 || !IsSecret(words.back()) || (words.size() == 2 && !IsResourceName(name))) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "line %d is no token; want 1 to 4,096 visible ASCII characters, or a name of [a-z0-9._-] and "
          "then those",
          line_number));
    }
    tokens.push_back({name, std::string(words.back())});
  }
  if (tokens.empty() || tokens.size() > kTokensMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("holds %d tokens; want 1 to %d, one a line", tokens.size(), kTokensMax));
  }
  return tokens;
}

std::string FormatTokens(const Tokens& tokens) {
  std::string text;
  for (const Token& token : tokens)
    text += (token.name.empty() ? "" : token.name + " ") + token.secret + "\n";
  return text;
}

absl::StatusOr<Tokens> ReadTokens(const std::string& file) {
  BDH_RETURN_IF_ERROR(CheckPrivate("mesh.token_file", file));
  BDH_ASSIGN_OR_RETURN(const std::string text, ReadFile(file));
  auto tokens = ParseTokens(text);
  if (!tokens.ok()) return Annotate(tokens.status(), "mesh.token_file " + file);
  return tokens;
}

const Token& TokenToShow(const Tokens& tokens, std::string_view name) {
  const auto own =
      std::find_if(tokens.begin(), tokens.end(), [&](const Token& token) { return token.name == name; });
  return own == tokens.end() ? tokens.front() : *own;
}

}  // namespace bdh::mesh
