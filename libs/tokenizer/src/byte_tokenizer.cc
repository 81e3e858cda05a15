#include "byte_tokenizer.h"

#include "absl/strings/str_format.h"
#include "json_reader.h"
#include "normalizers.h"

namespace bdh::tokenizer {
namespace {

// For Hugging Face's tokenizers: one token a byte, its id the byte.
std::string TokenizerJson() {
  nlohmann::ordered_json vocabulary = nlohmann::ordered_json::object();
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    std::string spelling;
    AppendMappedBytes(std::string_view(&c, 1), spelling);
    vocabulary[spelling] = byte;
  }
  const nlohmann::ordered_json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  const nlohmann::ordered_json json = {{"version", "1.0"},
                                       {"truncation", nullptr},
                                       {"padding", nullptr},
                                       {"added_tokens", nlohmann::ordered_json::array()},
                                       {"normalizer", nullptr},
                                       {"pre_tokenizer", byte_level},
                                       {"post_processor", nullptr},
                                       {"decoder", byte_level},
                                       {"model",
                                        {{"type", "BPE"},
                                         {"dropout", nullptr},
                                         {"unk_token", nullptr},
                                         {"continuing_subword_prefix", nullptr},
                                         {"end_of_word_suffix", nullptr},
                                         {"fuse_unk", false},
                                         {"byte_fallback", false},
                                         {"vocab", std::move(vocabulary)},
                                         {"merges", nlohmann::ordered_json::array()}}}};
  return json.dump(2) + "\n";
}

std::string TokenizerConfigJson() {
  const nlohmann::ordered_json json = {
      {"tokenizer_class", "PreTrainedTokenizerFast"},
      {"clean_up_tokenization_spaces", false},
      {"model_input_names", {"input_ids"}},
      {"bdh_tokenizer", "byte"},
      {"vocab_size", 256},
      {"description", "One token a byte: the text's UTF-8 bytes are the ids, 0 to 255."}};
  return json.dump(2) + "\n";
}

}  // namespace

ByteTokenizer::ByteTokenizer()
    : files_({{"tokenizer.json", TokenizerJson()}, {"tokenizer_config.json", TokenizerConfigJson()}}),
      hash_(HashOf(files_)) {}

void ByteTokenizer::Encode(std::string_view text, std::vector<int32_t>& tokens) const {
  // resize first: one write a token, without a capacity check each.
  const size_t begin = tokens.size();
  tokens.resize(begin + text.size());
  for (size_t i = 0; i < text.size(); ++i) tokens[begin + i] = static_cast<unsigned char>(text[i]);
}

absl::Status ByteTokenizer::Decode(int32_t token, std::string& bytes) const {
  if (token < 0 || token >= vocab_size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("token %d is outside the vocabulary of tokenizer '%s'; want 0 to %d", token, name(),
                        vocab_size() - 1));
  }
  bytes.push_back(static_cast<char>(token));
  return absl::OkStatus();
}

std::optional<int32_t> ByteTokenizer::TokenId(std::string_view spelling) const {
  std::string byte;
  if (!UnmapBytes(spelling, byte) || byte.size() != 1) return std::nullopt;
  return static_cast<unsigned char>(byte[0]);
}

std::string ByteTokenizer::TokenSpelling(int32_t token) const {
  std::string byte, spelling;
  if (Decode(token, byte).ok()) AppendMappedBytes(byte, spelling);
  return spelling;
}

}  // namespace bdh::tokenizer
