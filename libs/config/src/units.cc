#include "units.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>
#include <vector>

namespace bdh::config {
namespace {

// How many of the key's own unit one of these is: numerator / denominator.
struct Unit {
  std::string_view name;
  int64_t numerator;
  int64_t denominator = 1;
};

constexpr int64_t kThousand = 1000;
constexpr int64_t kMillion = kThousand * kThousand;
constexpr int64_t kBillion = kMillion * kThousand;

const std::vector<Unit>& Units(std::string_view unit) {
  static const std::vector<Unit> kNone;
  static const std::vector<Unit> kBytes{{"B", 1},
                                        {"kB", kThousand},
                                        {"MB", kMillion},
                                        {"GB", kBillion},
                                        {"TB", kBillion * kThousand},
                                        {"KiB", 1LL << 10},
                                        {"MiB", 1LL << 20},
                                        {"GiB", 1LL << 30},
                                        {"TiB", 1LL << 40}};
  static const std::vector<Unit> kSeconds{{"ms", 1, 1000}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
  static const std::vector<Unit> kCount{{"k", kThousand}, {"M", kMillion}, {"G", kBillion}};
  if (unit == "bytes") return kBytes;
  if (unit == "seconds") return kSeconds;
  if (unit == "tokens" || unit == "steps" || unit == "sequences") return kCount;
  return kNone;
}

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

bool IsLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// "1.5 GiB" -> {"1.5", "GiB"}
std::pair<std::string_view, std::string_view> Split(std::string_view text) {
  const size_t end = text.find_first_not_of("0123456789.");
  if (end == std::string_view::npos) return {text, ""};
  const std::string_view number = text.substr(0, end);
  text.remove_prefix(end);
  if (text.size() > 1 && text[0] == ' ') text.remove_prefix(1);
  return {number, text};
}

const Unit* Find(std::string_view name, std::string_view unit) {
  const std::vector<Unit>& units = Units(unit);
  const auto found = std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == name; });
  return found == units.end() ? nullptr : &*found;
}

}  // namespace

std::string UnitsOf(std::string_view unit) {
  std::string text;
  for (const Unit& known : Units(unit)) text += (text.empty() ? "" : ", ") + std::string(known.name);
  return text;
}

bool LooksLikeQuantity(std::string_view text) {
  const auto [number, letters] = Split(text);
  if (number.size() > 1 && number[0] == '0' && number[1] != '.')
    return false;  // Eight, to some readers of 010.
  return !number.empty() && IsDigit(number.front()) && IsDigit(number.back()) &&
         std::count(number.begin(), number.end(), '.') <= 1 && !letters.empty() &&
         std::all_of(letters.begin(), letters.end(), IsLetter);
}

Quantity ParseQuantity(std::string_view text, std::string_view unit, int64_t& value) {
  const auto [number, letters] = Split(text);
  const Unit* const found = Find(letters, unit);
  if (found == nullptr) return Quantity::kUnknownUnit;
  // All digits as one whole number, then the unit, then the places of the fraction: nothing is rounded.
  __extension__ typedef unsigned __int128 Wide;
  const Wide most = static_cast<Wide>(std::numeric_limits<int64_t>::max());
  const size_t point = std::min(number.find('.'), number.size());
  Wide whole = 0;
  Wide scale = 1;
  for (size_t i = 0; i < number.size(); ++i) {
    if (i == point) continue;
    if (whole > most || scale > most) return Quantity::kOverflow;
    whole = whole * 10 + static_cast<Wide>(number[i] - '0');
    if (i > point) scale *= 10;
  }
  if (whole > most * 16) return Quantity::kOverflow;
  const Wide counted = whole * static_cast<Wide>(found->numerator);
  const Wide divisor = scale * static_cast<Wide>(found->denominator);
  if (counted % divisor != 0) return Quantity::kFraction;
  if (counted / divisor > most) return Quantity::kOverflow;
  value = static_cast<int64_t>(counted / divisor);
  return Quantity::kOk;
}

Quantity ParseQuantity(std::string_view text, std::string_view unit, double& value) {
  const auto [number, letters] = Split(text);
  const Unit* const found = Find(letters, unit);
  if (found == nullptr) return Quantity::kUnknownUnit;
  const auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || stop != number.data() + number.size()) return Quantity::kOverflow;
  value = value * static_cast<double>(found->numerator) / static_cast<double>(found->denominator);
  return Quantity::kOk;
}

}  // namespace bdh::config
