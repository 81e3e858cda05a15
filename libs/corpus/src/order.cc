#include "order.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "bdh/base/log.h"

namespace bdh::corpus {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;
constexpr int kRounds = 6;

// How many slots each weight gets: the largest remainder, and at least one each.
std::vector<uint64_t> Apportion(const std::vector<double>& weights, uint64_t slots) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<uint64_t> count;
  std::vector<std::pair<double, size_t>> remainders;
  uint64_t given = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double share = weights[i] / sum * static_cast<double>(slots);
    count.push_back(std::max<uint64_t>(1, static_cast<uint64_t>(share)));
    given += count.back();
    remainders.emplace_back(static_cast<double>(count.back()) - share, i);
  }
  std::sort(remainders.begin(), remainders.end());  // Who is furthest below its share comes first.
  for (size_t i = 0; given < slots; i = (i + 1) % remainders.size(), ++given) ++count[remainders[i].second];
  // Too many parts were lifted to one slot: the largest pays.
  for (; given > slots; --given) --*std::max_element(count.begin(), count.end());
  return count;
}

}  // namespace

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

uint64_t RandomAt(uint64_t key, uint64_t n) {
  return Mix(key + (n + 1) * kGolden);
}

uint64_t Scale(uint64_t random, uint64_t n) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(random) * n) >> 64);
}

uint64_t HashPrefix(std::string_view hex) {
  uint64_t prefix = 0;
  for (const char c : hex.substr(0, 16)) {
    prefix = prefix << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return prefix;
}

Permutation::Permutation(uint64_t n, uint64_t key)
    : n_(n), key_(key), half_bits_(std::max(1, (static_cast<int>(std::bit_width(n - 1)) + 1) / 2)) {
  BDH_CHECK(n >= 1 && n < uint64_t{1} << 62);
}

uint64_t Permutation::Round(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t mixed = left ^ (Mix(key_ + (round << 56 | right) * kGolden) & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

uint64_t Permutation::operator()(uint64_t index) const {
  do {
    index = Round(index);
  } while (index >= n_);
  return index;
}

Schedule::Schedule(const std::vector<double>& weights) {
  BDH_CHECK(!weights.empty() && weights.size() <= kSlots);
  if (weights.size() == 1) {  // One slot says all.
    part_ = {0}, before_ = {0}, count_ = {1};
    return;
  }
  count_ = Apportion(weights, kSlots);
  std::vector<uint64_t> given(weights.size());
  for (uint64_t slot = 0; slot < kSlots; ++slot) {
    // Whoever lags most behind its share is next.
    size_t next = weights.size();
    int64_t most = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      if (given[i] == count_[i]) continue;
      const auto lag = static_cast<int64_t>((slot + 1) * count_[i]) - static_cast<int64_t>(given[i] * kSlots);
      if (next == weights.size() || lag > most) next = i, most = lag;
    }
    part_.push_back(static_cast<uint16_t>(next));
    before_.push_back(static_cast<uint16_t>(given[next]++));
  }
}

Schedule::Turn Schedule::At(uint64_t sample) const {
  const uint64_t slots = part_.size(), slot = sample % slots;
  return {part_[slot], sample / slots * count_[part_[slot]] + before_[slot]};
}

}  // namespace bdh::corpus
