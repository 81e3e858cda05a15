#include "models.h"

#include "bdh/base/status_macros.h"
#include "utf8.h"

namespace bdh::tokenizer {

absl::Status Vocabulary::Add(std::string spelling, int64_t id, const JsonPlace& place) {
  if (id < 0 || id >= kMaxVocabulary) {
    return place.Refuse(
        absl::StrFormat("gives '%s' the id %d; want 0 to %d", spelling, id, kMaxVocabulary - 1));
  }
  const auto at = static_cast<size_t>(id);
  if (at >= spellings_.size()) {
    spellings_.resize(at + 1);
    known_.resize(at + 1);
  }
  if (known_[at]) {
    return place.Refuse(absl::StrFormat("gives the id %d to '%s' and to '%s'", id, spellings_[at], spelling));
  }
  const auto [entry, is_new] = ids_.emplace(spelling, static_cast<int32_t>(id));
  if (!is_new) {
    return place.Refuse(
        absl::StrFormat("has '%s' twice, with the ids %d and %d", spelling, entry->second, id));
  }
  spellings_[at] = std::move(spelling);
  known_[at] = true;
  return absl::OkStatus();
}

absl::StatusOr<Vocabulary> ReadVocabulary(const JsonPlace& place) {
  BDH_RETURN_IF_ERROR(place.WantObject());
  if (place.json().empty()) return place.Refuse("is empty; want at least one token");
  if (place.json().size() > kMaxVocabulary) {
    return place.Refuse(
        absl::StrFormat("has %d tokens; want at most %d", place.json().size(), kMaxVocabulary));
  }
  Vocabulary vocabulary;
  for (const auto& [spelling, id] : place.json().items()) {
    if (!id.is_number_integer() || (id.is_number_unsigned() && id.get<uint64_t>() >= kMaxVocabulary)) {
      return place.Refuse(absl::StrFormat("gives '%s' an id that is not a whole number of 0 to %d", spelling,
                                          kMaxVocabulary - 1));
    }
    BDH_RETURN_IF_ERROR(vocabulary.Add(spelling, id.get<int64_t>(), place));
  }
  return vocabulary;
}

std::vector<int32_t> ByteTokens(const Vocabulary& vocabulary) {
  std::vector<int32_t> ids(256, -1);
  for (unsigned byte = 0; byte < 256; ++byte) {
    ids[byte] = vocabulary.Find(absl::StrFormat("<0x%02X>", byte)).value_or(-1);
  }
  return ids;
}

absl::StatusOr<std::shared_ptr<const Model>> ReadModel(const JsonPlace& place) {
  BDH_RETURN_IF_ERROR(place.WantObject());
  // Files from before 2021 do not say the type of their model.
  std::string type = place.json().contains("merges")                     ? "BPE"
                     : place.json().contains("max_input_chars_per_word") ? "WordPiece"
                     : place.At("vocab").json().is_array()               ? "Unigram"
                                                                         : "";
  if (const JsonPlace field = place.At("type"); !field.is_null()) {
    BDH_ASSIGN_OR_RETURN(type, field.String());
  }
  if (type == "BPE") return ReadBpe(place);
  if (type == "WordPiece") return ReadWordPiece(place);
  if (type == "Unigram") return ReadUnigram(place);
  return place.At("type").Refuse(absl::StrFormat(
      "is \"%s\", a model that is not supported; the known ones are BPE, Unigram and WordPiece", type));
}

}  // namespace bdh::tokenizer
