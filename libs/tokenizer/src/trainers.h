// The algorithms behind TokenizerTrainer: from counted words to vocabularies.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace bdh::tokenizer {

using CountedWords = std::vector<std::pair<std::string, int64_t>>;
// Says what is done and how large the vocabulary is by now; false: stop.
using Report = std::function<bool(std::string_view phase, int vocab_size)>;

struct BpeSpec {
  int vocab_size = 0;
  int64_t min_frequency = 0;
  std::vector<std::string> special_tokens = {};
  std::vector<std::string> alphabet = {};  // Always there. Characters of the words join it.
  size_t max_alphabet = 0;                 // The rarest beyond it are left out. 0: no limit.
  std::string continuing_prefix = {};
};

struct BpeResult {
  std::vector<std::string> tokens;                  // By id.
  std::vector<std::pair<int32_t, int32_t>> merges;  // In order.
};

// Words are UTF-8. The merges are those of Hugging Face's BpeTrainer: the most frequent pair first, of
// equally frequent ones that of the lower ids.
absl::StatusOr<BpeResult> TrainBpe(const CountedWords& words, const BpeSpec& spec, const Report& report);

struct UnigramSpec {
  int vocab_size = 0;  // With special tokens.
  int special_tokens = 0;
  size_t max_seeds = 1'000'000;
};

// Pieces and their log probabilities, the likeliest first.
absl::StatusOr<std::vector<std::pair<std::string, double>>> TrainUnigram(const CountedWords& words,
                                                                         const UnigramSpec& spec,
                                                                         const Report& report);

}  // namespace bdh::tokenizer
