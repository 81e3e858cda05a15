// WordPiece: the longest token that fits, then the longest that goes on. A word that cannot be made up is
// unknown.
#include "bdh/base/status_macros.h"
#include "models.h"
#include "utf8.h"

namespace bdh::tokenizer {
namespace {

class WordPieceModel : public Model {
 public:
  Kind kind() const override { return Kind::kWordPiece; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }

  void Encode(std::string_view word, std::vector<int32_t>& ids) const override {
    const size_t begin = ids.size();
    if (IsTooLong(word) || !Split(word, ids)) {
      ids.resize(begin);
      ids.push_back(unknown_);
    }
  }

  absl::Status Read(const JsonPlace& place) {
    BDH_ASSIGN_OR_RETURN(vocabulary_, ReadVocabulary(place.At("vocab")));
    std::string unknown = "[UNK]";
    if (const JsonPlace field = place.At("unk_token"); !field.is_null()) {
      BDH_ASSIGN_OR_RETURN(unknown, field.String());
    }
    const auto id = vocabulary_.Find(unknown);
    if (!id.has_value()) {
      return place.At("unk_token").Refuse(absl::StrFormat("is '%s', which is not in model.vocab", unknown));
    }
    unknown_ = *id;
    if (const JsonPlace field = place.At("continuing_subword_prefix"); !field.is_null()) {
      BDH_ASSIGN_OR_RETURN(prefix_, field.String());
    }
    if (const JsonPlace field = place.At("max_input_chars_per_word"); !field.is_null()) {
      BDH_ASSIGN_OR_RETURN(const int64_t most, field.Integer(0, 1 << 20));
      max_characters_ = static_cast<size_t>(most);
    }
    for (int32_t i = 0; i < vocabulary_.size(); ++i) {
      if (vocabulary_.Has(i)) longest_ = std::max(longest_, vocabulary_.Spelling(i).size());
    }
    return absl::OkStatus();
  }

 private:
  bool IsTooLong(std::string_view word) const {
    if (word.size() <= max_characters_) return false;
    size_t characters = 0;
    for (size_t at = 0; at < word.size(); ++characters) NextUnit(word, at);
    return characters > max_characters_;
  }

  bool Split(std::string_view word, std::vector<int32_t>& ids) const {
    std::string continued;
    for (size_t begin = 0; begin < word.size();) {
      std::string_view rest = word.substr(begin);
      if (begin > 0) {
        continued = prefix_;
        continued += rest;
        rest = continued;
      }
      const size_t shortest = begin > 0 ? prefix_.size() : 0;
      size_t end = rest.size();
      std::optional<int32_t> found;
      while (end > shortest) {
        if (end <= longest_ && (found = vocabulary_.Find(rest.substr(0, end))).has_value()) break;
        end = PreviousUnit(rest, end);
      }
      if (!found.has_value()) return false;
      ids.push_back(*found);
      begin += end - shortest;
    }
    return true;
  }

  Vocabulary vocabulary_;
  int32_t unknown_ = 0;
  std::string prefix_ = "##";
  size_t max_characters_ = 100, longest_ = 0;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Model>> ReadWordPiece(const JsonPlace& place) {
  auto model = std::make_shared<WordPieceModel>();
  BDH_RETURN_IF_ERROR(model->Read(place));
  return model;
}

}  // namespace bdh::tokenizer
