// Text to token ids and back. Byte strings go in and, with byte-level kinds, come out unchanged, whatever
// they hold.
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

enum class Kind { kByte, kBpe, kWordPiece, kUnigram };

std::string_view KindName(Kind kind);  // "byte", "bpe", "wordpiece", "unigram"

// A file that makes up a tokenizer, as from_pretrained reads it: tokenizer.json, tokenizer_config.json,
// special_tokens_map.json, tokenizer.model, spiece.model, chat_template.jinja.
struct TokenizerFile {
  std::string name;
  std::string bytes;
};

// A token that stands for no text: it marks where something begins or ends.
struct SpecialToken {
  std::string text;
  int32_t id;
};

// What a decoder remembers of the tokens before.
struct DecodeState {
  bool begun = false;  // A token was decoded.
  int stripped = 0;    // Characters taken off the front of the whole text.
  std::string held;    // Bytes that come out only if another token follows.
};

// Immutable, so any thread may use it. Encode keeps a cache of words a thread.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string_view name() const = 0;  // "byte", or what it was loaded as.
  virtual Kind kind() const = 0;
  // One more than the largest token.
  virtual int vocab_size() const = 0;
  // The token that ends a text, where the vocabulary has one.
  virtual std::optional<int32_t> end_of_text() const = 0;
  // Appends the tokens of `text`. The text of an added token ("<|endoftext|>") becomes that token, as in
  // Hugging Face's encode(text, add_special_tokens=False); truncation and padding of tokenizer.json are not
  // applied.
  virtual void Encode(std::string_view text, std::vector<int32_t>& tokens) const = 0;
  // As Encode, with what the post-processor puts around a text: [CLS] and [SEP], <s>.
  virtual void EncodeWithSpecials(std::string_view text, std::vector<int32_t>& tokens) const {
    Encode(text, tokens);
  }
  // Appends the bytes of one token as they stand inside of a text. InvalidArgumentError: outside the
  // vocabulary, also in one of its gaps.
  virtual absl::Status Decode(int32_t token, std::string& bytes) const = 0;
  // Appends the bytes that `token` adds to a text whose tokens before made `state`; nothing for a special
  // token. Neighbours matter to some decoders: Metaspace drops the first space, WordPiece joins "##ing".
  virtual absl::Status DecodeNext(int32_t token, DecodeState& state, std::string& bytes) const {
    state.begun = true;
    return Decode(token, bytes);
  }
  // Sorted by id.
  virtual const std::vector<SpecialToken>& special_tokens() const;
  // A Jinja template, or empty.
  virtual const std::string& chat_template() const;
  // Sorted by name. LoadTokenizer of these gives the same tokenizer.
  virtual const std::vector<TokenizerFile>& files() const = 0;
  // SHA-256 of the files' names and bytes, in lower-case hex.
  virtual const std::string& hash() const = 0;

  // The id of the token with exactly this text in the vocabulary's own spelling ("Ġthe").
  virtual std::optional<int32_t> TokenId(std::string_view spelling) const = 0;
  // The vocabulary's own spelling; empty for an id in a gap or outside.
  virtual std::string TokenSpelling(int32_t token) const = 0;
};

inline constexpr size_t kMaxTokenizerBytes = 64 << 20;  // All files together.
inline constexpr int kMaxVocabulary = 1 << 20;

// Reads tokenizer.json, or tokenizer.model or spiece.model where that is all there is;
// tokenizer_config.json adds the chat template and names the end of text. Files of other names are refused.
// InvalidArgumentError names file, place and what is wrong: a part that is not supported, a merge of unknown
// tokens, ids given twice.
absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadTokenizer(std::string name,
                                                               std::vector<TokenizerFile> files);

// The files of a folder that LoadTokenizer knows. Empty: there are none.
absl::StatusOr<std::vector<TokenizerFile>> ReadTokenizerFiles(const std::string& folder);
// Whether LoadTokenizer knows a file of this name.
bool IsTokenizerFile(std::string_view name);

// SHA-256 over sorted names and bytes, in lower-case hex.
std::string HashOf(const std::vector<TokenizerFile>& files);

// The tokenizer that is always there: "byte", also called "". NotFoundError for any other name; those are
// in a Library.
absl::StatusOr<std::shared_ptr<const Tokenizer>> Find(std::string_view name);

// Turns a stream of tokens into a stream of whole UTF-8 characters: bytes of a character that is not complete
// yet are held back; bytes that can never become one come out as U+FFFD. Special tokens make no text.
class StreamDecoder {
 public:
  explicit StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}
  absl::StatusOr<std::string> Push(int32_t token);
  // What is still held back, made valid. The next token begins a new text.
  std::string Flush();

 private:
  const std::shared_ptr<const Tokenizer> tokenizer_;
  DecodeState state_;
  std::string pending_;
};

}  // namespace bdh::tokenizer
