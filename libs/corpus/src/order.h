// The arithmetic of orders: everything here is a pure function of small numbers, so that any sample of any
// epoch is reached without the ones before it and without memory that grows with the data.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace bdh::corpus {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every output bit depends on every input bit.
uint64_t Mix(uint64_t x);

// Number n of the SplitMix64 stream that begins at key, reached without the ones before.
uint64_t RandomAt(uint64_t key, uint64_t n);

// Uniform in [0, n), off by at most n / 2^64.
uint64_t Scale(uint64_t random, uint64_t n);

// The first 64 bits of a hash in hex.
uint64_t HashPrefix(std::string_view hex);

// A permutation of 0..n-1 drawn by `key`: a Feistel network over the next even power of two, walked until it
// is back inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
class Permutation {
 public:
  Permutation(uint64_t n, uint64_t key);
  uint64_t operator()(uint64_t index) const;

 private:
  uint64_t Round(uint64_t value) const;

  uint64_t n_, key_;
  int half_bits_;
};

// Which part of a mixture sample n comes from, and the how manieth of that part it is. Parts are spread as
// evenly as can be: after any number of samples each has had its share, give or take one.
class Schedule {
 public:
  // Shares are rounded to 1/kSlots; each weight is over 0 and not rounded to none.
  static constexpr int kSlots = 4096;
  explicit Schedule(const std::vector<double>& weights);

  struct Turn {
    size_t part;
    uint64_t index;
  };
  Turn At(uint64_t sample) const;

 private:
  std::vector<uint16_t> part_;    // Of each slot.
  std::vector<uint16_t> before_;  // How many earlier slots are of the same part.
  std::vector<uint64_t> count_;   // Slots of each part.
};

}  // namespace bdh::corpus
