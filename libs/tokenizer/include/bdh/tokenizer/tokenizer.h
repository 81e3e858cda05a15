// Text to token ids and back. Byte strings go in and come out unchanged, whatever they hold.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::tokenizer {

// Immutable, so any thread may use it.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string_view name() const = 0;  // "byte"
  virtual int vocab_size() const = 0;
  // The token that ends a text, where the vocabulary has one.
  virtual std::optional<int32_t> end_of_text() const = 0;
  // Appends the tokens of `text`.
  virtual void Encode(std::string_view text, std::vector<int32_t>& tokens) const = 0;
  // Appends the bytes of one token. InvalidArgumentError: outside the vocabulary.
  virtual absl::Status Decode(int32_t token, std::string& bytes) const = 0;
};

// NotFoundError names the known ones.
absl::StatusOr<std::shared_ptr<const Tokenizer>> Find(std::string_view name);

// Turns a stream of tokens into a stream of whole UTF-8 characters: bytes of a character that is not complete
// yet are held back; bytes that can never become one come out as U+FFFD.
class StreamDecoder {
 public:
  explicit StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}
  absl::StatusOr<std::string> Push(int32_t token);
  // What is still held back, made valid.
  std::string Flush();

 private:
  const std::shared_ptr<const Tokenizer> tokenizer_;
  std::string pending_;
};

}  // namespace bdh::tokenizer
