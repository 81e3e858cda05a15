// Unigram by expectation and maximisation: all frequent substrings to begin with, each round their
// likelihoods from all ways to cut the words, then the pieces go that cost the least, until few enough are
// left. The steps and constants are SentencePiece's, as Hugging Face has them.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "byte_trie.h"
#include "trainers.h"
#include "utf8.h"

namespace bdh::tokenizer {
namespace {

constexpr size_t kMaxPieceCharacters = 16;
constexpr int kSubIterations = 2;
constexpr double kShrinking = 0.75;
constexpr double kUnknownPenalty = 10;
constexpr double kRareExpectation = 0.5;
constexpr size_t kMaxWordUnits = 4096;  // Longer words are left out: what repeats in them is no word.
constexpr int32_t kUnknown = -1;

double Digamma(double x) {
  double result = 0;
  for (; x < 7; ++x) result -= 1 / x;
  x -= 0.5;
  const double xx = 1 / x, xx2 = xx * xx, xx4 = xx2 * xx2;
  return result + std::log(x) + (1.0 / 24) * xx2 - 7.0 / 960 * xx4 + (31.0 / 8064) * xx4 * xx2 -
         (127.0 / 30720) * xx4 * xx4;
}

double LogSumExp(double x, double y) {
  const double low = std::min(x, y), high = std::max(x, y);
  return low == -std::numeric_limits<double>::infinity() || high > low + 50
             ? high
             : high + std::log(std::exp(low - high) + 1);
}

struct PieceInfo {
  std::string text;
  double score = 0;
  bool alive = true;
};

// A way to go from a character of a word to a later one.
struct Edge {
  uint16_t begin, end;
  int32_t piece;  // kUnknown: a character that no piece is.
};

class UnigramTraining {
 public:
  UnigramTraining(const CountedWords& words, const UnigramSpec& spec, const Report& report)
      : spec_(spec), report_(report) {
    for (const auto& [word, count] : words) {
      std::u32string units = ToUnits(word);
      if (!units.empty() && units.size() <= kMaxWordUnits)
        words_.push_back({std::move(units), static_cast<double>(count)});
    }
  }

  absl::StatusOr<std::vector<std::pair<std::string, double>>> Run() {
    if (!Reported("counting")) return Cancelled();
    CountCharacters();
    if (characters_.size() > Room()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("vocab_size leaves %d pieces, but the text has %d different characters; want more, "
                          "or less varied text",
                          Room(), characters_.size()));
    }
    MakeSeeds();
    BuildTrie();
    const size_t desired = static_cast<size_t>(spec_.vocab_size) * 11 / 10;
    while (true) {
      for (int i = 0; i < kSubIterations; ++i) {
        std::vector<double> expected(pieces_.size(), 0);
        if (!Expect(expected)) return Cancelled();
        Maximise(expected);
      }
      // Sizes count the unknown piece, as theirs do.
      if (alive_ + 1 <= desired) break;
      const size_t before = alive_;
      if (!Prune(std::max(desired, static_cast<size_t>(static_cast<double>(alive_ + 1) * kShrinking))))
        return Cancelled();
      if (alive_ == before) break;  // Nothing can go without a character becoming unknown.
    }
    return Finished();
  }

 private:
  struct Word {
    std::u32string units;
    double count;
  };

  size_t Room() const { return static_cast<size_t>(spec_.vocab_size - spec_.special_tokens); }
  bool Reported(std::string_view phase) const {
    return report_ == nullptr || report_(phase, static_cast<int>(alive_));
  }
  static absl::Status Cancelled() { return absl::CancelledError("training was cancelled"); }

  void CountCharacters() {
    for (const Word& word : words_) {
      for (const char32_t unit : word.units) characters_[unit] += word.count;
    }
  }

  // All characters, and the substrings that repeat and go on in more than one way, by how much text they
  // cover.
  void MakeSeeds() {
    std::vector<std::pair<double, char32_t>> single;
    for (const auto& [unit, count] : characters_) single.emplace_back(count, unit);
    std::sort(single.rbegin(), single.rend());
    for (const auto& [count, unit] : single) pieces_.push_back({ToBytes(std::u32string(1, unit)), count});

    std::vector<std::pair<uint64_t, std::u32string>> repeated = Repeated();
    std::sort(repeated.rbegin(), repeated.rend());
    for (auto& [score, units] : repeated) {
      if (pieces_.size() >= spec_.max_seeds) break;
      pieces_.push_back({ToBytes(units), static_cast<double>(score)});
    }
    double sum = 0;
    for (const PieceInfo& piece : pieces_) sum += piece.score;
    for (PieceInfo& piece : pieces_) piece.score = std::log(piece.score) - std::log(sum);
    alive_ = pieces_.size();
    order_.resize(alive_);
    std::iota(order_.begin(), order_.end(), size_t{0});
  }

  // The inner nodes of the suffix tree over all words, down to the longest piece; how often, times how long.
  std::vector<std::pair<uint64_t, std::u32string>> Repeated() const {
    std::u32string all;
    for (const Word& word : words_) (all += word.units) += U'\0';
    std::vector<uint32_t> suffixes;
    for (uint32_t i = 0; i < all.size(); ++i) {
      if (all[i] != 0) suffixes.push_back(i);
    }
    const auto depth = [&](uint32_t a, uint32_t b) {  // Of what two suffixes share, counted a little too far.
      size_t n = 0;
      while (n <= kMaxPieceCharacters && a + n < all.size() && b + n < all.size() &&
             all[a + n] == all[b + n]) {
        if (all[a + n++] == 0) break;
      }
      return n;
    };
    std::sort(suffixes.begin(), suffixes.end(), [&](uint32_t a, uint32_t b) {
      const size_t n = depth(a, b);
      if (n > kMaxPieceCharacters || a + n >= all.size() || b + n >= all.size()) return a < b;
      return all[a + n] != all[b + n] ? all[a + n] < all[b + n] : a < b;
    });
    std::vector<std::pair<uint64_t, std::u32string>> out;
    std::vector<std::pair<size_t, size_t>> open;  // Depth, and the first suffix below.
    for (size_t i = 1; i <= suffixes.size(); ++i) {
      const size_t shared = i < suffixes.size() ? depth(suffixes[i - 1], suffixes[i]) : 0;
      size_t first = i - 1;
      while (!open.empty() && open.back().first > shared) {
        const auto [length, from] = open.back();
        open.pop_back();
        first = from;
        const std::u32string_view text = std::u32string_view(all).substr(suffixes[from], length);
        if (length >= 2 && length <= kMaxPieceCharacters && text.find(U'\0') == std::u32string_view::npos) {
          out.emplace_back((i - from) * length, std::u32string(text));
        }
      }
      if (shared > 0 && (open.empty() || open.back().first < shared)) open.emplace_back(shared, first);
    }
    return out;
  }

  void BuildTrie() {
    for (size_t i = 0; i < pieces_.size(); ++i) trie_.Add(pieces_[i].text, static_cast<int32_t>(i));
  }

  double UnknownScore() const { return lowest_ - kUnknownPenalty; }
  double Score(const Edge& edge) const {
    return edge.piece == kUnknown ? UnknownScore() : pieces_[static_cast<size_t>(edge.piece)].score;
  }

  // All ways through `units`, sorted by begin. Characters that no living piece is are unknown.
  void Edges(std::u32string_view units, std::vector<Edge>& edges) const {
    edges.clear();
    std::string bytes;
    std::vector<uint32_t> ends;  // Of each character, in bytes.
    for (const char32_t unit : units) {
      AppendUnit(unit, bytes);
      ends.push_back(static_cast<uint32_t>(bytes.size()));
    }
    for (size_t begin = 0; begin < units.size(); ++begin) {
      int32_t node = trie_.root();
      size_t byte = begin == 0 ? 0 : ends[begin - 1];
      bool has_single = false;
      for (size_t end = begin; end < units.size() && node != ByteTrie::kNone; ++end) {
        for (; byte < ends[end] && node != ByteTrie::kNone; ++byte) {
          node = trie_.Child(node, static_cast<unsigned char>(bytes[byte]));
        }
        if (node == ByteTrie::kNone) break;
        const int32_t piece = trie_.Value(node);
        if (piece == ByteTrie::kNone || !pieces_[static_cast<size_t>(piece)].alive) continue;
        has_single = has_single || end == begin;
        edges.push_back({static_cast<uint16_t>(begin), static_cast<uint16_t>(end + 1), piece});
      }
      if (!has_single)
        edges.push_back({static_cast<uint16_t>(begin), static_cast<uint16_t>(begin + 1), kUnknown});
    }
  }

  // How often each piece is used, over all ways to cut all words, each as likely as it is.
  bool Expect(std::vector<double>& expected) const {
    constexpr double kNever = -std::numeric_limits<double>::infinity();
    std::vector<Edge> edges;
    std::vector<double> forward, backward;
    for (size_t w = 0; w < words_.size(); ++w) {
      if (w % 4096 == 0 && !Reported("pruning")) return false;
      const Word& word = words_[w];
      const size_t size = word.units.size();
      Edges(word.units, edges);
      forward.assign(size + 1, kNever);
      backward.assign(size + 1, kNever);
      forward[0] = backward[size] = 0;
      for (const Edge& edge : edges) {
        forward[edge.end] = LogSumExp(forward[edge.end], forward[edge.begin] + Score(edge));
      }
      for (size_t i = edges.size(); i-- > 0;) {
        backward[edges[i].begin] =
            LogSumExp(backward[edges[i].begin], backward[edges[i].end] + Score(edges[i]));
      }
      for (const Edge& edge : edges) {
        if (edge.piece == kUnknown) continue;
        expected[static_cast<size_t>(edge.piece)] +=
            word.count * std::exp(forward[edge.begin] + Score(edge) + backward[edge.end] - forward[size]);
      }
    }
    return true;
  }

  void Maximise(const std::vector<double>& expected) {
    double sum = 0;
    for (size_t i = 0; i < pieces_.size(); ++i) {
      if (!pieces_[i].alive) continue;
      if (expected[i] < kRareExpectation) {
        pieces_[i].alive = false;
        --alive_;
      } else {
        sum += expected[i];
      }
    }
    const double log_sum = Digamma(sum);
    lowest_ = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < pieces_.size(); ++i) {
      if (!pieces_[i].alive) continue;
      pieces_[i].score = Digamma(expected[i]) - log_sum;
      lowest_ = std::min(lowest_, pieces_[i].score);
    }
  }

  // The likeliest way through `edges`, which are sorted by begin; `without` is not taken.
  void BestPath(size_t size, const std::vector<Edge>& edges, int32_t without, std::vector<int32_t>& path) {
    best_.assign(size + 1, {-std::numeric_limits<double>::infinity(), nullptr});
    best_[0].first = 0;
    for (const Edge& edge : edges) {
      if (edge.piece == without && edge.piece != kUnknown) continue;
      const double score = best_[edge.begin].first + Score(edge);
      if (score > best_[edge.end].first) best_[edge.end] = {score, &edge};
    }
    path.clear();
    for (size_t at = size; at > 0 && best_[at].second != nullptr; at = best_[at].second->begin) {
      path.push_back(best_[at].second->piece);
    }
  }

  bool Prune(size_t wanted) {
    std::vector<double> used(pieces_.size(), 0);
    double all_counts = 0, all_used = 0;
    std::vector<Edge> edges;
    std::vector<int32_t> path;
    for (size_t w = 0; w < words_.size(); ++w) {
      if (w % 4096 == 0 && !Reported("pruning")) return false;
      Edges(words_[w].units, edges);
      BestPath(words_[w].units.size(), edges, kUnknown, path);
      all_counts += words_[w].count;
      for (const int32_t piece : path) {
        if (piece == kUnknown) continue;
        used[static_cast<size_t>(piece)] += words_[w].count;
        all_used += words_[w].count;
      }
    }
    std::vector<std::pair<double, size_t>> candidates;  // What it costs to lose a piece.
    size_t kept = 1;                                    // With the unknown one, as they count.
    std::vector<size_t> keep;
    for (const size_t i : order_) {
      if (i % 16384 == 0 && !Reported("pruning")) return false;
      if (!pieces_[i].alive) continue;
      const std::u32string units = ToUnits(pieces_[i].text);
      Edges(units, edges);
      BestPath(units.size(), edges, kUnknown, path);
      const bool is_best = path.size() == 1;
      bool has_other = false;
      if (is_best) {
        BestPath(units.size(), edges, static_cast<int32_t>(i), path);
        has_other = !path.empty();
      }
      if (!is_best) {
        // Its parts are likelier than it is: used nowhere, it goes.
        if (used[i] == 0) continue;
        keep.push_back(i);
        ++kept;
      } else if (!has_other) {
        keep.push_back(i);
        ++kept;
      } else if (used[i] > 0) {
        const double log_now = std::log(used[i]) - std::log(all_used);
        const double log_sum = std::log(all_used + used[i] * static_cast<double>(path.size() - 1));
        double log_then = 0;
        for (const int32_t other : path) {
          const double others = other == kUnknown ? 0 : used[static_cast<size_t>(other)];
          log_then += std::log(others + used[i]) - log_sum;
        }
        candidates.emplace_back(used[i] / all_counts * (log_now - log_then), i);
      }
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const auto& x, const auto& y) { return x.first > y.first; });
    for (const auto& [loss, i] : candidates) {
      if (kept >= wanted) break;
      keep.push_back(i);
      ++kept;
    }
    for (PieceInfo& piece : pieces_) piece.alive = false;
    for (const size_t i : keep) pieces_[i].alive = true;
    alive_ = keep.size();
    order_ = std::move(keep);
    return true;
  }

  // Every character, then other pieces until the vocabulary is full.
  std::vector<std::pair<std::string, double>> Finished() const {
    std::vector<std::pair<std::string, double>> out;
    double penalty = 0;
    for (size_t i = 0; i < characters_.size(); ++i) {  // Characters are the first pieces.
      out.emplace_back(pieces_[i].text, pieces_[i].alive ? pieces_[i].score : lowest_ + penalty);
      if (!pieces_[i].alive) penalty += 0.0001;
    }
    // In the order of the last pruning: those that nothing can replace, then those that are missed the most.
    for (const size_t i : order_) {
      if (out.size() >= Room()) break;
      if (i >= characters_.size() && pieces_[i].alive) out.emplace_back(pieces_[i].text, pieces_[i].score);
    }
    const auto likelier = [](const auto& x, const auto& y) {
      return x.second != y.second ? x.second > y.second : x.first < y.first;
    };
    std::sort(out.begin(), out.end(), likelier);
    return out;
  }

  const UnigramSpec& spec_;
  const Report& report_;
  std::vector<Word> words_;
  std::map<char32_t, double> characters_;
  std::vector<PieceInfo> pieces_;
  size_t alive_ = 0;
  std::vector<size_t> order_;  // Of the living pieces, as the last pruning left them.
  double lowest_ = 0;
  ByteTrie trie_;
  std::vector<std::pair<double, const Edge*>> best_;
};

}  // namespace

absl::StatusOr<std::vector<std::pair<std::string, double>>> TrainUnigram(const CountedWords& words,
                                                                         const UnigramSpec& spec,
                                                                         const Report& report) {
  return UnigramTraining(words, spec, report).Run();
}

}  // namespace bdh::tokenizer
