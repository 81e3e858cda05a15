// How often each word was seen, within a bound on memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace bdh::tokenizer {

class WordCounts {
 public:
  explicit WordCounts(size_t max_bytes) : max_bytes_(max_bytes) {}

  void Add(std::string_view word) {
    const absl::string_view key(word.data(), word.size());
    if (const auto found = counts_.find(key); found != counts_.end()) {
      ++found->second;
      return;
    }
    bytes_ += word.size() + kBytesAWord;
    counts_.emplace(std::string(word), 1);
    while (bytes_ > max_bytes_ && counts_.size() > 1) ForgetRarest();
  }

  int64_t forgotten() const { return forgotten_; }
  bool empty() const { return counts_.empty(); }

  // Sorted by word, so that nothing depends on the table's order. The counts are gone afterwards.
  std::vector<std::pair<std::string, int64_t>> Take() {
    std::vector<std::pair<std::string, int64_t>> out;
    out.reserve(counts_.size());
    for (const auto& [word, count] : counts_) out.emplace_back(word, count);
    counts_.clear();
    std::sort(out.begin(), out.end());
    return out;
  }

 private:
  static constexpr size_t kBytesAWord = 64;  // Of the table, about.

  // Words seen at most `rare_` times go; next time, twice as often seen ones.
  void ForgetRarest() {
    size_t kept_bytes = 0;
    const size_t before = counts_.size();
    absl::erase_if(counts_, [&](const auto& entry) {
      if (entry.second <= rare_) return true;
      kept_bytes += entry.first.size() + kBytesAWord;
      return false;
    });
    forgotten_ += static_cast<int64_t>(before - counts_.size());
    bytes_ = kept_bytes;
    if (bytes_ > max_bytes_ / 2) rare_ *= 2;
  }

  const size_t max_bytes_;
  absl::flat_hash_map<std::string, int64_t> counts_;
  size_t bytes_ = 0;
  int64_t rare_ = 1, forgotten_ = 0;
};

}  // namespace bdh::tokenizer
