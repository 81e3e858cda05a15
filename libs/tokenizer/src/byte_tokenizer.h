#pragma once

#include "bdh/tokenizer/tokenizer.h"

namespace bdh::tokenizer {

// One token a byte, its value the byte's: what the BDH reference trains on.
class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer();
  std::string_view name() const override { return "byte"; }
  Kind kind() const override { return Kind::kByte; }
  int vocab_size() const override { return 256; }
  std::optional<int32_t> end_of_text() const override { return std::nullopt; }
  void Encode(std::string_view text, std::vector<int32_t>& tokens) const override;
  absl::Status Decode(int32_t token, std::string& bytes) const override;
  const std::vector<TokenizerFile>& files() const override { return files_; }
  const std::string& hash() const override { return hash_; }
  std::optional<int32_t> TokenId(std::string_view spelling) const override;
  std::string TokenSpelling(int32_t token) const override;

 private:
  const std::vector<TokenizerFile> files_;
  const std::string hash_;
};

}  // namespace bdh::tokenizer
