// Makes a tokenizer from text: the same vocabulary and merges as Hugging Face's trainers make from it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/tokenizer/tokenizer.h"

namespace bdh::tokenizer {

struct TrainerOptions {
  Kind kind = Kind::kBpe;  // kBpe is byte-level.
  // With special tokens and alphabet.
  int vocab_size = 32000;
  // They get the first ids. None: "<|endoftext|>" for kBpe, BERT's five for kWordPiece, "<pad>", "</s>" and
  // "<unk>" for kUnigram. kWordPiece needs "[UNK]", kUnigram "<unk>": they are added where they are missing.
  std::vector<std::string> special_tokens = {};
  // "gpt2" or "llama3": how text is split before merging. Empty: gpt2. For kBpe.
  std::string split = {};
  // A pair that is rarer is not merged. 0 means 2. For kBpe and kWordPiece.
  int64_t min_frequency = 0;
  // Lower-case and strip accents, as uncased BERT does. For kWordPiece.
  bool lowercase = true;
  // Kept in tokenizer_config.json.
  std::string chat_template = {};
  // Of distinct words while text is read. Beyond it the rarest words are forgotten, and Finish says so in
  // `forgotten_words`.
  size_t max_memory_bytes = size_t{1} << 30;
};

struct TrainerProgress {
  std::string_view phase;  // "reading", "counting", "merging" or "pruning".
  int64_t bytes_in = 0;
  int vocab_size = 0;  // So far.
  int vocab_size_wanted = 0;
};

// Feed it with Add, then Finish once. One thread at a time.
class TokenizerTrainer {
 public:
  // Returns false to cancel. Called every few milliseconds while Finish works.
  using Progress = std::function<bool(const TrainerProgress&)>;

  // InvalidArgumentError: a vocabulary too small for alphabet and special tokens or too large, a split that
  // nobody knows, special tokens given twice.
  static absl::StatusOr<std::unique_ptr<TokenizerTrainer>> Create(TrainerOptions options);
  virtual ~TokenizerTrainer() = default;

  // Counts the words of a piece of text. A word never reaches over the border of two pieces: cut between
  // documents or lines. Bytes that are no UTF-8 count as U+FFFD for kinds that are not byte-level.
  virtual void Add(std::string_view piece) = 0;
  virtual int64_t bytes_in() const = 0;

  // tokenizer.json and tokenizer_config.json, for LoadTokenizer. CancelledError: `progress` said so.
  // InvalidArgumentError: no text, or an alphabet larger than the vocabulary.
  virtual absl::StatusOr<std::vector<TokenizerFile>> Finish(const Progress& progress = nullptr) = 0;
  // Distinct words that max_memory_bytes made it forget: more than 0 says that rare words may be missing.
  virtual int64_t forgotten_words() const = 0;
};

}  // namespace bdh::tokenizer
