#include "elements.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_format.h"

namespace bdh::pretrained {
namespace {

template <class Stored, class Convert>
std::vector<float> Converted(std::string_view bytes, Convert convert) {
  std::vector<float> floats(bytes.size() / sizeof(Stored));
  for (size_t i = 0; i < floats.size(); ++i) {
    Stored element;
    std::memcpy(&element, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    floats[i] = convert(element);
  }
  return floats;
}

float FromBf16(uint16_t half) {
  return std::bit_cast<float>(uint32_t{half} << 16);
}

float FromF16(uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  const float sign = (half & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  if (exponent == 31) return sign * (fraction == 0 ? INFINITY : NAN);
  return sign * std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
}

uint16_t RoundedToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace

bool IsWeightType(std::string_view dtype) {
  return dtype == "F32" || dtype == "F16" || dtype == "BF16" || dtype == "F64";
}

std::vector<float> ToFloats(std::string_view bytes, std::string_view dtype) {
  if (dtype == "BF16") return Converted<uint16_t>(bytes, FromBf16);
  if (dtype == "F16") return Converted<uint16_t>(bytes, FromF16);
  if (dtype == "F64") return Converted<double>(bytes, [](double value) { return static_cast<float>(value); });
  return Converted<float>(bytes, [](float value) { return value; });
}

std::string ToBf16(std::span<const float> values) {
  std::string bytes(values.size() * sizeof(uint16_t), '\0');
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = RoundedToBf16(values[i]);
    std::memcpy(bytes.data() + i * sizeof(half), &half, sizeof(half));
  }
  return bytes;
}

absl::Status CheckFinite(std::string_view name, std::span<const float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return absl::InvalidArgumentError(absl::StrFormat(
        "tensor %s holds %g at element %d; want finite numbers that float32 can hold", name, values[i], i));
  }
  return absl::OkStatus();
}

}  // namespace bdh::pretrained
