// The split patterns that almost all byte-level tokenizers use, written out by hand: an order of magnitude
// faster than a regular expression, and not bound to its engine's Unicode version.
#pragma once

#include <optional>
#include <string_view>

namespace bdh::tokenizer {

enum class SplitScanner {
  kGpt2,    // GPT-2, GPT-NeoX, RoBERTa, and ByteLevel's own.
  kLlama3,  // Llama 3, cl100k: numbers in groups of up to three.
  kQwen2,   // The same, numbers one by one.
};

// The scanner for exactly this pattern.
std::optional<SplitScanner> ScannerFor(std::string_view pattern);
std::string_view PatternOf(SplitScanner scanner);

// Where the piece that begins at `at` ends. Pieces cover the whole text. `at` is less than text.size().
size_t PieceEnd(SplitScanner scanner, std::string_view text, size_t at);

}  // namespace bdh::tokenizer
