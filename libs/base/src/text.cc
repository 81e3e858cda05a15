#include "bdh/base/text.h"

#include <openssl/rand.h>

#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/sha256.h"

namespace bdh {
namespace {

std::string Scaled(double value, double base, std::initializer_list<const char*> units, const char* whole) {
  auto unit = units.begin();
  if (value < base) return absl::StrFormat("%.0f%s", value, whole);
  // 0.9995: what would print as 1000 of a unit is 1.0 of the next.
  value /= base;
  while (value >= base * 0.9995 && unit + 1 != units.end()) value /= base, ++unit;
  return absl::StrFormat("%.1f%s", value, *unit);
}

}  // namespace

std::string FormatBytes(uint64_t bytes) {
  return Scaled(static_cast<double>(bytes), 1024, {" KiB", " MiB", " GiB", " TiB"}, " B");
}

std::string FormatCount(uint64_t count) {
  return Scaled(static_cast<double>(count), 1000, {"k", "M", "B", "T"}, "");
}

std::string FormatDuration(double seconds) {
  if (!(seconds >= 0) || std::isinf(seconds)) return "?";
  if (seconds < 10) return absl::StrFormat("%.1fs", seconds);
  const auto total = static_cast<uint64_t>(seconds + 0.5);
  if (total < 60) return absl::StrFormat("%ds", total);
  if (total < 3600) return absl::StrFormat("%dm %02ds", total / 60, total % 60);
  return absl::StrFormat("%dh %02dm", total / 3600, total / 60 % 60);
}

std::string RandomHex(int bytes) {
  std::string raw(bytes, '\0');
  BDH_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(raw.data()), bytes) == 1);
  return absl::BytesToHexString(raw);
}

std::string Sha256Hex(std::string_view bytes) {
  return Sha256().Of(bytes).Hex();
}

bool IsUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const int length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || i + length > text.size()) return false;
    for (int k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    }
    // Overlong forms, surrogates and what lies past U+10FFFF show in the second byte.
    const auto second = static_cast<unsigned char>(text[i + 1]);
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) {
      return false;
    }
    i += length;
  }
  return true;
}

bool IsResourceName(std::string_view name, size_t max_length) {
  const auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (name.empty() || name.size() > max_length || !alphanumeric(name[0])) return false;
  for (const char c : name) {
    if (!alphanumeric(c) && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

}  // namespace bdh
