#include "bdh/tokenizer/tokenizer.h"

#include "absl/strings/str_format.h"
#include "byte_tokenizer.h"

namespace bdh::tokenizer {

absl::StatusOr<std::shared_ptr<const Tokenizer>> Find(std::string_view name) {
  static const std::shared_ptr<const Tokenizer> byte = std::make_shared<ByteTokenizer>();
  if (name == byte->name()) return byte;
  return absl::NotFoundError(
      absl::StrFormat("there is no tokenizer '%s'; the known ones are: %s", name, byte->name()));
}

}  // namespace bdh::tokenizer
