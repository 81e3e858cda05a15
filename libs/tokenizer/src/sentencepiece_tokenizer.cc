// SentencePiece's own model files, run by its own library: it alone counts scores as it did when it trained
// them.
#include <functional>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "hf_tokenizer.h"
#include "sentencepiece_model.h"
#include "utf8.h"

namespace bdh::tokenizer {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// Walks one message of protobuf. False: it is not one.
bool ForEachField(std::string_view message,
                  const std::function<void(uint64_t field, uint64_t number, std::string_view bytes)>& take) {
  size_t at = 0;
  const auto varint = [&](uint64_t& value) {
    value = 0;
    for (int shift = 0; at < message.size() && shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(message[at++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  };
  while (at < message.size()) {
    uint64_t key = 0, number = 0;
    if (!varint(key)) return false;
    std::string_view bytes;
    switch (key & 7) {
      case 0:
        if (!varint(number)) return false;
        break;
      case 2:
        if (!varint(number) || number > message.size() - at) return false;
        bytes = message.substr(at, number);
        at += number;
        break;
      case 1:
      case 5: {
        const size_t size = (key & 7) == 1 ? 8 : 4;
        if (size > message.size() - at) return false;
        at += size;
        break;
      }
      default:
        return false;
    }
    take(key >> 3, number, bytes);
  }
  return true;
}

// How the model was trained: its library runs every kind, but does not say which it is.
Kind KindOf(std::string_view model) {
  constexpr uint64_t kTrainerSpec = 2, kModelType = 3, kBpe = 2;
  bool is_bpe = false;
  ForEachField(model, [&](uint64_t field, uint64_t, std::string_view trainer) {
    if (field != kTrainerSpec) return;
    ForEachField(trainer, [&](uint64_t in, uint64_t number, std::string_view) {
      if (in == kModelType) is_bpe = number == kBpe;
    });
  });
  return is_bpe ? Kind::kBpe : Kind::kUnigram;
}

class SentencePieceTokenizer : public FileTokenizer {
 public:
  using FileTokenizer::FileTokenizer;

  absl::Status Read(const TokenizerFile& file) {
    std::string error = "it holds no tokens, or too many";
    model_ = SentencePieceModel::Load(file.bytes, error);
    if (model_ == nullptr || model_->size() <= 0 || model_->size() > kMaxVocabulary) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: is not a SentencePiece model: %s", file.name, error));
    }
    kind_ = KindOf(file.bytes);
    for (int id = 0; id < vocab_size(); ++id) {
      if (model_->IsControl(id)) special_tokens_.push_back({model_->Piece(id), id});
    }
    std::vector<int32_t> ids;
    if (!model_->Encode("a", ids) || ids.empty())
      return absl::InvalidArgumentError(file.name + ": cannot encode the letter a");
    drops_first_space_ = model_->Piece(ids[0]).starts_with(kSpace);
    BDH_RETURN_IF_ERROR(FindEndOfText());
    if (!settings_.end_of_text.has_value() && model_->end_id() >= 0) end_of_text_ = model_->end_id();
    return absl::OkStatus();
  }

  Kind kind() const override { return kind_; }
  int vocab_size() const override { return model_->size(); }

  void Encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    model_->Encode(Repaired(text), tokens);
  }

  void EncodeWithSpecials(std::string_view text, std::vector<int32_t>& tokens) const override {
    if (settings_.add_bos && model_->begin_id() >= 0) tokens.push_back(model_->begin_id());
    Encode(text, tokens);
    if (settings_.add_eos && model_->end_id() >= 0) tokens.push_back(model_->end_id());
  }

  absl::Status Decode(int32_t token, std::string& bytes) const override {
    if (token < 0 || token >= vocab_size()) return OutsideVocabulary(token);
    if (model_->IsByte(token)) {
      bytes += ByteOf(model_->Piece(token));
    } else if (model_->IsUnknown(token)) {
      bytes += " \xE2\x81\x87 ";  // SentencePiece's own mark.
    } else {
      const std::string_view piece = model_->Piece(token);
      for (size_t at = 0; at < piece.size();) {
        const bool space = piece.substr(at).starts_with(kSpace);
        bytes += space ? ' ' : piece[at];
        at += space ? kSpace.size() : 1;
      }
    }
    return absl::OkStatus();
  }

  absl::Status DecodeNext(int32_t token, DecodeState& state, std::string& bytes) const override {
    if (token >= 0 && token < vocab_size() && model_->IsControl(token)) return absl::OkStatus();
    std::string text;
    BDH_RETURN_IF_ERROR(Decode(token, text));
    if (!state.begun && drops_first_space_ && text.starts_with(' ') && !model_->IsUnknown(token))
      text.erase(0, 1);
    state.begun = true;
    bytes += text;
    return absl::OkStatus();
  }

  std::optional<int32_t> TokenId(std::string_view spelling) const override {
    const int id = model_->Id(spelling);
    const bool known = id >= 0 && id < vocab_size() && model_->Piece(id) == spelling;
    return known ? std::optional<int32_t>(id) : std::nullopt;
  }
  std::string TokenSpelling(int32_t token) const override {
    return token >= 0 && token < vocab_size() ? model_->Piece(token) : "";
  }

 private:
  // "<0x41>" as its byte.
  static char ByteOf(std::string_view piece) {
    const auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; };
    return piece.size() == 6 ? static_cast<char>(digit(piece[3]) * 16 + digit(piece[4])) : '?';
  }

  std::unique_ptr<SentencePieceModel> model_;
  Kind kind_ = Kind::kUnigram;
  bool drops_first_space_ = false;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadSentencePiece(std::string name,
                                                                   std::vector<TokenizerFile> files,
                                                                   const TokenizerFile& model,
                                                                   TokenizerSettings settings) {
  auto tokenizer =
      std::make_shared<SentencePieceTokenizer>(std::move(name), std::move(files), std::move(settings));
  BDH_RETURN_IF_ERROR(tokenizer->Read(model));
  return tokenizer;
}

}  // namespace bdh::tokenizer
