// How tokenizer.json's "pre_tokenizer" splits a text into the pieces that the model sees one by one.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "json_reader.h"
#include "split_scanners.h"

namespace bdh::tokenizer {

struct Piece {
  std::string_view text;
  size_t from_first = 0;  // As in NormalText.
};

// Views of a text, or of what a pre-tokenizer made of it.
struct Pieces {
  std::vector<Piece> list;
  std::deque<std::string> made;  // Stays where it is while it grows.

  std::string_view Keep(std::string text) { return made.emplace_back(std::move(text)); }
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void Split(Pieces& pieces) const = 0;
};

// Null where `place` is. InvalidArgumentError names a kind that is not supported.
absl::StatusOr<std::shared_ptr<const PreTokenizer>> ReadPreTokenizer(const JsonPlace& place);

// The shape that nearly all byte-level tokenizers have: one known split, then bytes. They take a short cut.
struct ByteLevelShape {
  std::optional<SplitScanner> scanner;  // None: the text is one piece.
  bool add_prefix_space = false;
};
std::optional<ByteLevelShape> ByteLevelShapeOf(const JsonPlace& place);

}  // namespace bdh::tokenizer
