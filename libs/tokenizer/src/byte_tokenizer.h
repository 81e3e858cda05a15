#pragma once

#include "bdh/tokenizer/tokenizer.h"

namespace bdh::tokenizer {

// One token a byte, its value the byte's: what the BDH reference trains on.
class ByteTokenizer : public Tokenizer {
 public:
  std::string_view name() const override { return "byte"; }
  int vocab_size() const override { return 256; }
  std::optional<int32_t> end_of_text() const override { return std::nullopt; }
  void Encode(std::string_view text, std::vector<int32_t>& tokens) const override;
  absl::Status Decode(int32_t token, std::string& bytes) const override;
};

}  // namespace bdh::tokenizer
