// Unigram: of all ways to cut a text, the one whose tokens are likeliest together. Sums are doubles and the
// first of two equal ways wins, as in Hugging Face's; SentencePiece itself counts in floats.
#include <cmath>
#include <limits>

#include "bdh/base/status_macros.h"
#include "byte_trie.h"
#include "models.h"
#include "utf8.h"

namespace bdh::tokenizer {
namespace {

constexpr double kUnknownPenalty = 10;

class UnigramModel : public Model {
 public:
  Kind kind() const override { return Kind::kUnigram; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }

  void Encode(std::string_view text, std::vector<int32_t>& ids) const override {
    if (text.empty()) return;
    std::vector<Best> best(text.size() + 1);
    FillBest(text, best);
    // From the end; unknown neighbours are one.
    std::vector<std::string_view> parts;
    bool unknown_before = false;
    for (size_t end = text.size(); end > 0;) {
      const size_t begin = best[end].begin;
      const bool unknown = best[end].id == unknown_;
      if (unknown && unknown_before) {
        parts.back() = text.substr(begin, parts.back().size() + end - begin);
      } else {
        parts.push_back(text.substr(begin, end - begin));
      }
      unknown_before = unknown;
      end = begin;
    }
    for (size_t i = parts.size(); i-- > 0;) Append(parts[i], ids);
  }

  absl::Status Read(const JsonPlace& place) {
    const JsonPlace list = place.At("vocab");
    BDH_RETURN_IF_ERROR(list.WantArray());
    if (list.json().empty()) return list.Refuse("is empty; want at least one token");
    if (list.json().size() > kMaxVocabulary) {
      return list.Refuse(
          absl::StrFormat("has %d tokens; want at most %d", list.json().size(), kMaxVocabulary));
    }
    double lowest = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < list.json().size(); ++i) {
      const Json& entry = list.json()[i];
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
        return list.At(i).Refuse("is not a text and its score");
      }
      const double score = entry[1].get<double>();
      if (!std::isfinite(score)) return list.At(i).Refuse("has a score that is not finite");
      BDH_RETURN_IF_ERROR(vocabulary_.Add(entry[0].get<std::string>(), static_cast<int64_t>(i), list));
      trie_.Add(entry[0].get_ref<const std::string&>(), static_cast<int32_t>(i));
      scores_.push_back(score);
      lowest = std::min(lowest, score);
    }
    unknown_score_ = lowest - kUnknownPenalty;
    const JsonPlace unknown = place.At("unk_id");
    if (!unknown.is_null()) {
      BDH_ASSIGN_OR_RETURN(const int64_t id, unknown.Integer(0, vocabulary_.size() - 1));
      unknown_ = static_cast<int32_t>(id);
    }
    BDH_ASSIGN_OR_RETURN(const bool fallback, place.At("byte_fallback").Bool(false));
    if (fallback) fallback_ = ByteTokens(vocabulary_);
    if (unknown_ < 0 && !fallback) {
      return unknown.Refuse("is missing and byte_fallback is off: there is nothing for an unknown character");
    }
    return absl::OkStatus();
  }

 private:
  struct Best {
    double score = 0;
    size_t begin = std::string_view::npos;  // None yet.
    int32_t id = 0;
  };

  void FillBest(std::string_view text, std::vector<Best>& best) const {
    const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
      Best& target = best[end];
      const double sum = score + best[begin].score;
      if (target.begin == std::string_view::npos || sum > target.score) target = {sum, begin, id};
    };
    for (size_t begin = 0; begin < text.size();) {
      size_t next = begin;
      NextUnit(text, next);
      bool has_single = false;
      int32_t node = trie_.root();
      for (size_t end = begin; end < text.size();) {
        node = trie_.Child(node, static_cast<unsigned char>(text[end++]));
        if (node == ByteTrie::kNone) break;
        const int32_t id = trie_.Value(node);
        if (id == ByteTrie::kNone) continue;
        offer(begin, end, scores_[static_cast<size_t>(id)], id);
        has_single = has_single || end == next;
      }
      if (!has_single) offer(begin, next, unknown_score_, unknown_);
      begin = next;
    }
  }

  void Append(std::string_view part, std::vector<int32_t>& ids) const {
    if (const auto id = vocabulary_.Find(part); id.has_value()) {
      ids.push_back(*id);
      return;
    }
    bool all = !fallback_.empty();
    for (const char byte : part) all = all && fallback_[static_cast<unsigned char>(byte)] >= 0;
    if (all) {
      for (const char byte : part) ids.push_back(fallback_[static_cast<unsigned char>(byte)]);
    } else if (unknown_ >= 0) {
      ids.push_back(unknown_);
    }
  }

  Vocabulary vocabulary_;
  ByteTrie trie_;
  std::vector<double> scores_;
  double unknown_score_ = 0;
  int32_t unknown_ = -1;
  std::vector<int32_t> fallback_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Model>> ReadUnigram(const JsonPlace& place) {
  auto model = std::make_shared<UnigramModel>();
  BDH_RETURN_IF_ERROR(model->Read(place));
  return model;
}

}  // namespace bdh::tokenizer
