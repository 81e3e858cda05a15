// Tokens beside the model's own: they are found in the text as they stand, before or after normalisation.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "byte_trie.h"
#include "json_reader.h"
#include "models.h"
#include "normalizers.h"

namespace bdh::tokenizer {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  std::string matched;  // What is looked for: the content, normalised where the token is.
  bool single_word = false, lstrip = false, rstrip = false, normalized = true, special = false;
};

class AddedTokens {
 public:
  // InvalidArgumentError: an id or text twice, or another one than the model's vocabulary has.
  static absl::StatusOr<AddedTokens> Read(const JsonPlace& place, const Vocabulary& vocabulary,
                                          const Normalizer* normalizer);

  const std::vector<AddedToken>& tokens() const { return tokens_; }  // Sorted by id.
  const AddedToken* Find(int32_t id) const;

  // Calls `part` for each piece of `text`, in order: a token, or text between tokens (token null). `offset`
  // is where the piece begins. Of tokens of either kind: those matched before normalisation, or after.
  using Part = std::function<void(std::string_view text, const AddedToken* token, size_t offset)>;
  void Split(std::string_view text, bool normalized, const Part& part) const;
  bool has(bool normalized) const { return !matchers_[normalized ? 1 : 0].empty; }

 private:
  struct Matcher {
    ByteTrie trie;  // Values are places in tokens_.
    bool empty = true;
  };
  std::vector<AddedToken> tokens_;
  std::unordered_map<int32_t, size_t> by_id_;
  Matcher matchers_[2];  // Before and after normalisation.
};

}  // namespace bdh::tokenizer
