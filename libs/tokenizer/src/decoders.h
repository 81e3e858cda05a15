// How tokenizer.json's "decoder" makes text of tokens, one token at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "bdh/tokenizer/tokenizer.h"
#include "json_reader.h"

namespace bdh::tokenizer {

// A chain of steps. What Hugging Face does with the list of all tokens happens here token by token, which is
// why a run of byte tokens that is no UTF-8 is made valid character by character and not given up as a whole.
class Decoder {
 public:
  // Null: tokens are joined with spaces.
  static absl::StatusOr<Decoder> Read(const JsonPlace& place);

  void Append(std::string_view spelling, DecodeState& state, std::string& bytes) const;

 private:
  enum class Kind { kByteLevel, kWordPiece, kMetaspace, kByteFallback, kFuse, kStrip, kReplace, kBpe };
  struct Step {
    Kind kind;
    std::string text, with;  // Prefix, replacement, content, suffix.
    bool flag = false;       // WordPiece cleans up; Metaspace drops the first space.
    int start = 0, stop = 0;
  };
  absl::Status Add(const JsonPlace& place);
  static void StripWhole(const Step& step, DecodeState& state, std::string& text);

  bool joins_with_spaces_ = false;
  std::vector<Step> steps_;
};

}  // namespace bdh::tokenizer
