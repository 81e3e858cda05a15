// Seeded damage to a text: the same number gives the same damage on every machine.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace bdh::fuzz {

// How often a test tries: `few` in `make test`, times BDH_FUZZ_FACTOR where that is set, as `make soak` does.
inline int Rounds(int few) {
  const char* const factor = std::getenv("BDH_FUZZ_FACTOR");
  return factor == nullptr ? few : few * std::max(1, std::atoi(factor));
}

class Mutator {
 public:
  // `pieces` are what the format is made of: brackets, keywords, numbers at their limits.
  Mutator(uint64_t seed, std::initializer_list<std::string_view> pieces)
      : random_(seed), pieces_(pieces.begin(), pieces.end()) {}

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  template <class List>
  const auto& Pick(const List& from) {
    return from[Below(std::size(from))];
  }

  // One to six times: inserts a piece, cuts, overwrites a byte, repeats a part of the text, replaces by a
  // piece.
  std::string Mutated(std::string text) {
    for (uint64_t n = 1 + Below(6); n > 0; --n) Once(text);
    return text;
  }

 private:
  void Once(std::string& text) {
    const size_t at = Below(text.size() + 1);
    switch (Below(5)) {
      case 0:
        text.insert(at, Pick(pieces_));
        break;
      case 1:
        text.erase(at, 1 + Below(8));
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(random_());
        break;
      case 3: {
        const size_t from = Below(text.size() + 1);
        text.insert(at, text.substr(from, Below(40)));
        break;
      }
      default:
        text.replace(at, Below(4), Pick(pieces_));
    }
  }

  std::mt19937_64 random_;
  const std::vector<std::string_view> pieces_;
};

}  // namespace bdh::fuzz
