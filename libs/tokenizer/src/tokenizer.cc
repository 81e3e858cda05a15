#include "bdh/tokenizer/tokenizer.h"

#include "absl/strings/str_format.h"
#include "byte_tokenizer.h"

namespace bdh::tokenizer {

std::string_view KindName(Kind kind) {
  switch (kind) {
    case Kind::kByte:
      return "byte";
    case Kind::kBpe:
      return "bpe";
    case Kind::kWordPiece:
      return "wordpiece";
    case Kind::kUnigram:
      break;
  }
  return "unigram";
}

const std::vector<SpecialToken>& Tokenizer::special_tokens() const {
  static const std::vector<SpecialToken> none;
  return none;
}

const std::string& Tokenizer::chat_template() const {
  static const std::string none;
  return none;
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Find(std::string_view name) {
  static const std::shared_ptr<const Tokenizer> byte = std::make_shared<ByteTokenizer>();
  if (name.empty() || name == byte->name()) return byte;
  return absl::NotFoundError(
      absl::StrFormat("there is no tokenizer '%s'; the known ones are: %s", name, byte->name()));
}

}  // namespace bdh::tokenizer
