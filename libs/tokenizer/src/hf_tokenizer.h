#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "added_tokens.h"
#include "bdh/tokenizer/tokenizer.h"
#include "decoders.h"
#include "models.h"
#include "normalizers.h"
#include "pre_tokenizers.h"

namespace bdh::tokenizer {

// What tokenizer_config.json and its neighbours add.
struct TokenizerSettings {
  std::optional<std::string> end_of_text;
  std::string chat_template;
  bool add_bos = false, add_eos = false;  // For SentencePiece models.
  std::optional<std::string> begin_of_text;
};
absl::StatusOr<TokenizerSettings> ReadSettings(const std::vector<TokenizerFile>& files);

// What all tokenizers out of files share.
class FileTokenizer : public Tokenizer {
 public:
  FileTokenizer(std::string name, std::vector<TokenizerFile> files, TokenizerSettings settings);
  std::string_view name() const override { return name_; }
  const std::vector<TokenizerFile>& files() const override { return files_; }
  const std::string& hash() const override { return hash_; }
  const std::string& chat_template() const override { return settings_.chat_template; }
  const std::vector<SpecialToken>& special_tokens() const override { return special_tokens_; }
  std::optional<int32_t> end_of_text() const override { return end_of_text_; }

 protected:
  // After special_tokens_ is known: the configured end of text, or one of the usual names.
  absl::Status FindEndOfText();
  absl::Status OutsideVocabulary(int32_t token) const;

  const std::string name_;
  const std::vector<TokenizerFile> files_;
  const std::string hash_;
  const TokenizerSettings settings_;
  std::vector<SpecialToken> special_tokens_;
  std::optional<int32_t> end_of_text_;
};

// A Hugging Face tokenizer.json.
class HfTokenizer : public FileTokenizer {
 public:
  using FileTokenizer::FileTokenizer;
  absl::Status Read(const std::string& json_text);

  Kind kind() const override { return model_->kind(); }
  int vocab_size() const override { return vocab_size_; }
  void Encode(std::string_view text, std::vector<int32_t>& tokens) const override;
  void EncodeWithSpecials(std::string_view text, std::vector<int32_t>& tokens) const override;
  absl::Status Decode(int32_t token, std::string& bytes) const override;
  absl::Status DecodeNext(int32_t token, DecodeState& state, std::string& bytes) const override;
  std::optional<int32_t> TokenId(std::string_view spelling) const override;
  std::string TokenSpelling(int32_t token) const override;

 private:
  absl::Status ReadPostProcessor(const JsonPlace& place);
  absl::Status ReadTemplate(const JsonPlace& place);
  absl::StatusOr<int32_t> ReadMark(const JsonPlace& place) const;
  // Null: outside the vocabulary. The text that a decoder sees.
  const std::string* SpellingFor(int32_t token) const;
  void EncodeText(std::string_view text, bool at_start, std::vector<int32_t>& tokens) const;
  void EncodePieces(std::string_view text, size_t from_first, std::vector<int32_t>& tokens) const;
  void EncodeByteLevel(std::string_view text, std::vector<int32_t>& tokens) const;

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const Normalizer> normalizer_;
  std::shared_ptr<const PreTokenizer> pre_tokenizer_;
  std::optional<ByteLevelShape> byte_level_;  // The short cut, where it says the same.
  AddedTokens added_;
  Decoder decoder_;
  std::vector<int32_t> before_, after_;  // Of the post-processor.
  int vocab_size_ = 0;
};

absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadSentencePiece(std::string name,
                                                                   std::vector<TokenizerFile> files,
                                                                   const TokenizerFile& model,
                                                                   TokenizerSettings settings);

}  // namespace bdh::tokenizer
