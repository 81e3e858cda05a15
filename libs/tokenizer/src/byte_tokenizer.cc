#include "byte_tokenizer.h"

#include "absl/strings/str_format.h"

namespace bdh::tokenizer {

void ByteTokenizer::Encode(std::string_view text, std::vector<int32_t>& tokens) const {
  // resize first: one write a token, without a capacity check each.
  const size_t begin = tokens.size();
  tokens.resize(begin + text.size());
  for (size_t i = 0; i < text.size(); ++i) tokens[begin + i] = static_cast<unsigned char>(text[i]);
}

absl::Status ByteTokenizer::Decode(int32_t token, std::string& bytes) const {
  if (token < 0 || token >= vocab_size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("token %d is outside the vocabulary of tokenizer '%s'; want 0 to %d", token, name(),
                        vocab_size() - 1));
  }
  bytes.push_back(static_cast<char>(token));
  return absl::OkStatus();
}

}  // namespace bdh::tokenizer
