#include <algorithm>
#include <queue>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "trainers.h"
#include "utf8.h"

namespace bdh::tokenizer {
namespace {

using Pair = uint64_t;  // Left id above right id, so that pairs sort as they do there.

Pair PairOf(int32_t left, int32_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}
int32_t Left(Pair pair) {
  return static_cast<int32_t>(pair >> 32);
}
int32_t Right(Pair pair) {
  return static_cast<int32_t>(pair & 0xFFFFFFFF);
}

class BpeTraining {
 public:
  BpeTraining(const CountedWords& words, const BpeSpec& spec, const Report& report)
      : words_(words), spec_(spec), report_(report) {}

  absl::StatusOr<BpeResult> Run() {
    for (const std::string& token : spec_.special_tokens) IdOf(token);
    AddAlphabet();
    SpellWords();
    if (result_.tokens.size() > static_cast<size_t>(spec_.vocab_size)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("vocab_size is %d, but special tokens and alphabet alone are %d; want more",
                          spec_.vocab_size, result_.tokens.size()));
    }
    if (!Reported("counting")) return Cancelled();
    CountPairs();
    while (result_.tokens.size() < static_cast<size_t>(spec_.vocab_size)) {
      if (!MergeNext()) break;
      if (result_.merges.size() % 64 == 0 && !Reported("merging")) return Cancelled();
    }
    if (!Reported("merging")) return Cancelled();
    return std::move(result_);
  }

 private:
  // A pair in the queue and in which words it may be. Counts may be out of date: they are looked at again.
  struct Candidate {
    int64_t count;
    Pair pair;
    size_t places;  // In places_.
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  struct Word {
    uint32_t begin, size;  // In symbols_.
  };

  bool Reported(std::string_view phase) const {
    return report_ == nullptr || report_(phase, static_cast<int>(result_.tokens.size()));
  }
  static absl::Status Cancelled() { return absl::CancelledError("training was cancelled"); }

  int32_t IdOf(const std::string& token) {
    const auto [entry, is_new] = ids_.emplace(token, static_cast<int32_t>(result_.tokens.size()));
    if (is_new) result_.tokens.push_back(token);
    return entry->second;
  }

  void AddAlphabet() {
    absl::flat_hash_map<char32_t, int64_t> seen;
    for (const auto& [word, count] : words_) {
      for (size_t at = 0; at < word.size();) seen[NextUnit(word, at)] += count;
    }
    for (const std::string& letter : spec_.alphabet) {
      size_t at = 0;
      seen[NextUnit(letter, at)] = INT64_MAX;
    }
    std::vector<std::pair<char32_t, int64_t>> kept(seen.begin(), seen.end());
    if (spec_.max_alphabet > 0 && kept.size() > spec_.max_alphabet) {
      std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) {
        return a.second != b.second ? a.second > b.second : a.first < b.first;
      });
      kept.resize(spec_.max_alphabet);
    }
    std::sort(kept.begin(), kept.end());
    for (const auto& [unit, count] : kept) {
      std::string letter;
      AppendUnit(unit, letter);
      letters_.emplace(unit, IdOf(letter));
    }
  }

  void SpellWords() {
    spelled_.reserve(words_.size());
    for (const auto& [word, count] : words_) {
      const auto begin = static_cast<uint32_t>(symbols_.size());
      for (size_t at = 0; at < word.size();) {
        const bool first = at == 0;
        const size_t from = at;
        const auto letter = letters_.find(NextUnit(word, at));
        if (letter == letters_.end()) continue;
        const bool continues = !first && !spec_.continuing_prefix.empty();
        symbols_.push_back(continues ? IdOf(spec_.continuing_prefix + word.substr(from, at - from))
                                     : letter->second);
      }
      spelled_.push_back({begin, static_cast<uint32_t>(symbols_.size() - begin)});
    }
  }

  void CountPairs() {
    for (uint32_t i = 0; i < spelled_.size(); ++i) {
      const int32_t* const symbols = symbols_.data() + spelled_[i].begin;
      for (uint32_t k = 0; k + 1 < spelled_[i].size; ++k)
        Change(PairOf(symbols[k], symbols[k + 1]), words_[i].second, i);
    }
    QueueChanged();
  }

  void Change(Pair pair, int64_t by, uint32_t word) {
    counts_[pair] += by;
    if (by <= 0) return;
    std::vector<uint32_t>& places = changed_[pair];
    if (places.empty() || places.back() != word) places.push_back(word);
  }

  void QueueChanged() {
    for (auto& [pair, places] : changed_) {
      const int64_t count = counts_[pair];
      if (count <= 0) continue;
      queue_.push({count, pair, places_.size()});
      places_.push_back(std::move(places));
    }
    changed_.clear();
  }

  // False: nothing is left that is frequent enough.
  bool MergeNext() {
    while (!queue_.empty()) {
      Candidate top = queue_.top();
      queue_.pop();
      if (const int64_t count = counts_[top.pair]; count != top.count) {
        top.count = count;
        queue_.push(top);
        continue;
      }
      const std::vector<uint32_t> places = std::move(places_[top.places]);
      if (top.count < 1 || top.count < spec_.min_frequency) return false;
      std::string_view right = result_.tokens[static_cast<size_t>(Right(top.pair))];
      if (!spec_.continuing_prefix.empty() && right.starts_with(spec_.continuing_prefix)) {
        right.remove_prefix(spec_.continuing_prefix.size());
      }
      const int32_t merged = IdOf(result_.tokens[static_cast<size_t>(Left(top.pair))] + std::string(right));
      result_.merges.emplace_back(Left(top.pair), Right(top.pair));
      for (const uint32_t word : places) MergeIn(word, top.pair, merged);
      QueueChanged();
      return true;
    }
    return false;
  }

  void MergeIn(uint32_t index, Pair pair, int32_t merged) {
    Word& word = spelled_[index];
    int32_t* const symbols = symbols_.data() + word.begin;
    const int64_t count = words_[index].second;
    const int32_t left = Left(pair), right = Right(pair);
    uint32_t out = 0;
    for (uint32_t in = 0; in < word.size; ++in, ++out) {
      if (symbols[in] != left || in + 1 >= word.size || symbols[in + 1] != right) {
        symbols[out] = symbols[in];
        continue;
      }
      if (out > 0) {
        Change(PairOf(symbols[out - 1], left), -count, index);
        Change(PairOf(symbols[out - 1], merged), count, index);
      }
      if (in + 2 < word.size) {
        Change(PairOf(right, symbols[in + 2]), -count, index);
        Change(PairOf(merged, symbols[in + 2]), count, index);
      }
      symbols[out] = merged;
      ++in;
    }
    word.size = out;
  }

  const CountedWords& words_;
  const BpeSpec& spec_;
  const Report& report_;
  BpeResult result_;
  absl::flat_hash_map<std::string, int32_t> ids_;
  absl::flat_hash_map<char32_t, int32_t> letters_;
  std::vector<int32_t> symbols_;
  std::vector<Word> spelled_;  // One a word, in the same order.
  absl::flat_hash_map<Pair, int64_t> counts_;
  absl::flat_hash_map<Pair, std::vector<uint32_t>> changed_;
  std::vector<std::vector<uint32_t>> places_;  // In which words a queued pair may be.
  std::priority_queue<Candidate> queue_;
};

}  // namespace

absl::StatusOr<BpeResult> TrainBpe(const CountedWords& words, const BpeSpec& spec, const Report& report) {
  return BpeTraining(words, spec, report).Run();
}

}  // namespace bdh::tokenizer
