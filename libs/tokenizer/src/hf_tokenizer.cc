#include "hf_tokenizer.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "utf8.h"

namespace bdh::tokenizer {
namespace {

// How far a sequence of post-processors may be nested.
constexpr int kMaxMarks = 16;

}  // namespace

FileTokenizer::FileTokenizer(std::string name, std::vector<TokenizerFile> files, TokenizerSettings settings)
    : name_(std::move(name)),
      files_(std::move(files)),
      hash_(HashOf(files_)),
      settings_(std::move(settings)) {}

absl::Status FileTokenizer::FindEndOfText() {
  if (settings_.end_of_text.has_value()) {
    end_of_text_ = TokenId(*settings_.end_of_text);
    if (end_of_text_.has_value()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrFormat("tokenizer_config.json: eos_token is '%s', which the tokenizer does not have",
                        *settings_.end_of_text));
  }
  for (const char* usual : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[SEP]"}) {
    const auto is = [&](const SpecialToken& token) { return token.text == usual; };
    const auto found = std::find_if(special_tokens_.begin(), special_tokens_.end(), is);
    if (found == special_tokens_.end()) continue;
    end_of_text_ = found->id;
    break;
  }
  return absl::OkStatus();
}

absl::Status FileTokenizer::OutsideVocabulary(int32_t token) const {
  return absl::InvalidArgumentError(
      absl::StrFormat("token %d is outside the vocabulary of tokenizer '%s'%s; want 0 to %d", token, name_,
                      token >= 0 && token < vocab_size() ? ", in a gap of it" : "", vocab_size() - 1));
}

absl::Status HfTokenizer::Read(const std::string& json_text) {
  BDH_ASSIGN_OR_RETURN(const Json json, ParseJson("tokenizer.json", json_text));
  const JsonPlace root(json, "tokenizer.json: ");
  if (const JsonPlace version = root.At("version"); !version.is_null() && version.json() != "1.0") {
    return version.Refuse("is not \"1.0\", the only version there is");
  }
  BDH_ASSIGN_OR_RETURN(model_, ReadModel(root.At("model")));
  BDH_ASSIGN_OR_RETURN(normalizer_, ReadNormalizer(root.At("normalizer")));
  BDH_ASSIGN_OR_RETURN(pre_tokenizer_, ReadPreTokenizer(root.At("pre_tokenizer")));
  BDH_ASSIGN_OR_RETURN(decoder_, Decoder::Read(root.At("decoder")));
  BDH_ASSIGN_OR_RETURN(added_,
                       AddedTokens::Read(root.At("added_tokens"), model_->vocabulary(), normalizer_.get()));
  if (model_->takes_bytes()) byte_level_ = ByteLevelShapeOf(root.At("pre_tokenizer"));
  vocab_size_ = model_->vocabulary().size();
  for (const AddedToken& token : added_.tokens()) {
    vocab_size_ = std::max(vocab_size_, token.id + 1);
    if (token.special) special_tokens_.push_back({token.content, token.id});
  }
  const size_t known = static_cast<size_t>(model_->vocabulary().count()) + added_.tokens().size();
  // A gap here or there is real (deleted tokens, ids rounded up); a vocabulary of gaps is a mistake.
  if (static_cast<size_t>(vocab_size_) > 16 * known + 4096) {
    return root.At("model").At("vocab").Refuse(
        absl::StrFormat("has ids up to %d for %d tokens; want few gaps", vocab_size_ - 1, known));
  }
  BDH_RETURN_IF_ERROR(ReadPostProcessor(root.At("post_processor")));
  return FindEndOfText();
}

absl::StatusOr<int32_t> HfTokenizer::ReadMark(const JsonPlace& place) const {
  if (!place.json().is_array() || place.json().size() != 2 || !place.json()[0].is_string()) {
    return place.Refuse("is not a token and its id");
  }
  BDH_ASSIGN_OR_RETURN(const int64_t id, place.At(1).Integer(0, vocab_size_ - 1));
  if (SpellingFor(static_cast<int32_t>(id)) == nullptr) return place.At(1).Refuse("is the id of no token");
  return static_cast<int32_t>(id);
}

absl::Status HfTokenizer::ReadTemplate(const JsonPlace& place) {
  const JsonPlace single = place.At("single");
  BDH_RETURN_IF_ERROR(single.WantArray());
  std::vector<int32_t> before, after;
  bool seen = false;
  for (size_t i = 0; i < single.json().size(); ++i) {
    const JsonPlace part = single.At(i);
    if (const JsonPlace sequence = part.At("Sequence"); !sequence.is_null()) {
      if (seen || sequence.At("id").json() != "A") return part.Refuse("is a second text; want one, \"A\"");
      seen = true;
      continue;
    }
    BDH_ASSIGN_OR_RETURN(const std::string name, part.At("SpecialToken").At("id").String());
    const JsonPlace ids = place.At("special_tokens").At(name).At("ids");
    BDH_RETURN_IF_ERROR(ids.WantArray());
    if (ids.json().size() > kMaxMarks) return ids.Refuse("has too many ids");
    for (size_t k = 0; k < ids.json().size(); ++k) {
      BDH_ASSIGN_OR_RETURN(const int64_t id, ids.At(k).Integer(0, vocab_size_ - 1));
      if (SpellingFor(static_cast<int32_t>(id)) == nullptr) return ids.At(k).Refuse("is the id of no token");
      (seen ? after : before).push_back(static_cast<int32_t>(id));
    }
  }
  if (!seen) return single.Refuse("has no place for the text, {\"Sequence\": {\"id\": \"A\"}}");
  before_.insert(before_.begin(), before.begin(), before.end());
  after_.insert(after_.end(), after.begin(), after.end());
  return absl::OkStatus();
}

// Of pairs of texts nothing is kept: nobody encodes pairs here.
absl::Status HfTokenizer::ReadPostProcessor(const JsonPlace& place) {
  if (place.is_null()) return absl::OkStatus();
  BDH_RETURN_IF_ERROR(place.WantObject());
  BDH_ASSIGN_OR_RETURN(const std::string type, place.At("type").String());
  if (type == "ByteLevel") return absl::OkStatus();  // Moves offsets only.
  if (type == "TemplateProcessing") return ReadTemplate(place);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    BDH_ASSIGN_OR_RETURN(const int32_t cls, ReadMark(place.At("cls")));
    BDH_ASSIGN_OR_RETURN(const int32_t sep, ReadMark(place.At("sep")));
    before_.insert(before_.begin(), cls);
    after_.push_back(sep);
    return absl::OkStatus();
  }
  if (type == "Sequence") {
    const JsonPlace list = place.At("processors");
    BDH_RETURN_IF_ERROR(list.WantArray());
    for (size_t i = 0; i < list.json().size(); ++i) BDH_RETURN_IF_ERROR(ReadPostProcessor(list.At(i)));
    return absl::OkStatus();
  }
  return place.At("type").Refuse(absl::StrFormat(
      "is \"%s\", a post-processor that is not supported; the known ones are BertProcessing, ByteLevel, "
      "RobertaProcessing, Sequence and TemplateProcessing",
      type));
}

void HfTokenizer::Encode(std::string_view text, std::vector<int32_t>& tokens) const {
  if (!added_.has(/*normalized=*/false)) return EncodeText(text, /*at_start=*/true, tokens);
  added_.Split(text, /*normalized=*/false,
               [&](std::string_view part, const AddedToken* token, size_t offset) {
                 if (token != nullptr) {
                   tokens.push_back(token->id);
                 } else {
                   EncodeText(part, offset == 0, tokens);
                 }
               });
}

// Text between tokens that are found as they stand.
void HfTokenizer::EncodeText(std::string_view text, bool at_start, std::vector<int32_t>& tokens) const {
  NormalText normal{.text = "", .from_first = at_start ? FirstCharacterBytes(text) : 0};
  if (normalizer_ != nullptr) {
    normal.text = text;
    normalizer_->Apply(normal);
    text = normal.text;
  }
  if (!added_.has(/*normalized=*/true)) return EncodePieces(text, normal.from_first, tokens);
  added_.Split(text, /*normalized=*/true, [&](std::string_view part, const AddedToken* token, size_t offset) {
    if (token != nullptr) {
      tokens.push_back(token->id);
    } else {
      EncodePieces(part, normal.from_first - std::min(normal.from_first, offset), tokens);
    }
  });
}

void HfTokenizer::EncodePieces(std::string_view text, size_t from_first, std::vector<int32_t>& tokens) const {
  if (text.empty()) return;
  if (byte_level_.has_value()) return EncodeByteLevel(text, tokens);
  Pieces pieces;
  // Models that do not work on bytes see characters only.
  if (model_->kind() != Kind::kBpe && !pieces.made.emplace_back(Repaired(text)).empty())
    text = pieces.made.back();
  pieces.list.push_back({text, from_first});
  if (pre_tokenizer_ != nullptr) pre_tokenizer_->Split(pieces);
  for (const Piece& piece : pieces.list) model_->Encode(piece.text, tokens);
}

void HfTokenizer::EncodeByteLevel(std::string_view text, std::vector<int32_t>& tokens) const {
  std::string with_space;
  if (byte_level_->add_prefix_space && !text.starts_with(' ')) {
    with_space = " ";
    with_space += text;
    text = with_space;
  }
  const char* const end_of_buffer = text.data() + text.size();
  if (!byte_level_->scanner.has_value()) return model_->EncodeBytes(text, end_of_buffer, tokens);
  for (size_t at = 0; at < text.size();) {
    const size_t end = PieceEnd(*byte_level_->scanner, text, at);
    model_->EncodeBytes(text.substr(at, end - at), end_of_buffer, tokens);
    at = end;
  }
}

void HfTokenizer::EncodeWithSpecials(std::string_view text, std::vector<int32_t>& tokens) const {
  tokens.insert(tokens.end(), before_.begin(), before_.end());
  Encode(text, tokens);
  tokens.insert(tokens.end(), after_.begin(), after_.end());
}

const std::string* HfTokenizer::SpellingFor(int32_t token) const {
  if (const AddedToken* added = added_.Find(token); added != nullptr) return &added->matched;
  return model_->vocabulary().Has(token) ? &model_->vocabulary().Spelling(token) : nullptr;
}

absl::Status HfTokenizer::Decode(int32_t token, std::string& bytes) const {
  const std::string* const spelling = SpellingFor(token);
  if (spelling == nullptr) return OutsideVocabulary(token);
  if (const AddedToken* added = added_.Find(token); added != nullptr && added->special) {
    bytes += added->content;
    return absl::OkStatus();
  }
  DecodeState state{.begun = true, .stripped = 1 << 20, .held = ""};
  decoder_.Append(*spelling, state, bytes);
  bytes += state.held;
  return absl::OkStatus();
}

absl::Status HfTokenizer::DecodeNext(int32_t token, DecodeState& state, std::string& bytes) const {
  const std::string* const spelling = SpellingFor(token);
  if (spelling == nullptr) return OutsideVocabulary(token);
  if (const AddedToken* added = added_.Find(token); added != nullptr && added->special)
    return absl::OkStatus();
  decoder_.Append(*spelling, state, bytes);
  return absl::OkStatus();
}

std::optional<int32_t> HfTokenizer::TokenId(std::string_view spelling) const {
  for (const AddedToken& token : added_.tokens()) {
    if (token.content == spelling) return token.id;
  }
  return model_->vocabulary().Find(spelling);
}

std::string HfTokenizer::TokenSpelling(int32_t token) const {
  if (const AddedToken* added = added_.Find(token); added != nullptr) return added->content;
  return model_->vocabulary().Has(token) ? model_->vocabulary().Spelling(token) : "";
}

}  // namespace bdh::tokenizer
