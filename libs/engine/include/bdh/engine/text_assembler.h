// From tokens to the text a client sees: whole UTF-8 characters, and nothing of a stop text.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/tokenizer/tokenizer.h"

namespace bdh::engine {

inline constexpr size_t kMaxStops = 16;
inline constexpr size_t kMaxStopBytes = 256;

// InvalidArgumentError begins with "stop": too many, empty, too long, or not UTF-8.
absl::Status ValidateStops(const std::vector<std::string>& stops, size_t max_stops = kMaxStops);

// Text that may become a stop text is held back until it is clear that it does not. The text depends on the
// tokens alone, not on when they come. One thread at a time.
class TextAssembler {
 public:
  // Text that is ready, and the tokens it came from. A token comes with the end of its text, so the tokens of
  // a stop text never come.
  struct Piece {
    std::string text;
    std::vector<int32_t> tokens;
  };

  // `stops` have passed ValidateStops.
  TextAssembler(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::vector<std::string> stops)
      : end_of_text_(tokenizer->end_of_text()), decoder_(std::move(tokenizer)), stops_(std::move(stops)) {}

  // Takes a token and appends to `piece` what is ready. True: a stop text is complete or this is the
  // tokenizer's end of text, the text ends before it, and nothing more is to be pushed. InvalidArgumentError:
  // a token the tokenizer does not know.
  absl::StatusOr<bool> Push(int32_t token, Piece& piece);

  // The end came without a stop text: appends what was held back. True: its last character completed a stop
  // text after all.
  bool Finish(Piece& piece);

 private:
  bool Append(const std::string& text);
  void Release(size_t bytes, Piece& piece);
  size_t HeldBack() const;

  const std::optional<int32_t> end_of_text_;
  tokenizer::StreamDecoder decoder_;
  const std::vector<std::string> stops_;
  std::string pending_;                                 // Decoded and not released.
  int64_t released_ = 0;                                // Bytes released so far.
  std::vector<int32_t> undecoded_;                      // Tokens whose text is still incomplete.
  std::deque<std::pair<int32_t, int64_t>> unreleased_;  // Tokens, and where their text ends.
};

}  // namespace bdh::engine
