#include "numbers.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "bdh/base/log.h"

namespace bdh::store {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are little-endian");

double FromHalf(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(mantissa + 1024, exponent - 25);
}

// The nearest number with `digits` binary digits and no exponent below `least`.
double Round(double value, int digits, int least) {
  const int exponent = std::max(std::ilogb(value), least);
  const double unit = std::ldexp(1, exponent - (digits - 1));
  return std::nearbyint(value / unit) * unit;
}

uint16_t ToHalf(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return sign | 0x7e00;
  double size = std::abs(value);
  if (size == 0) return sign;
  if (!std::isinf(size)) size = Round(size, 11, -14);
  if (size > 65504) return sign | 0x7c00;
  if (size == 0) return sign;
  const int exponent = std::max(std::ilogb(size), -14);
  const auto mantissa = static_cast<uint16_t>(std::ldexp(size, 10 - exponent));
  if (mantissa < 1024) return sign | mantissa;
  return static_cast<uint16_t>(sign | (((exponent + 15) << 10) + (mantissa - 1024)));
}

double FromBf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t ToBf16(double value) {
  if (std::isfinite(value) && value != 0) value = Round(value, 8, -126);
  if (std::isnan(value)) return 0x7fc0;
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16);
}

template <class T>
void Widen(std::string_view bytes, std::span<double> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = static_cast<double>(value);
  }
}

template <double (*kConvert)(uint16_t)>
void WidenHalves(std::string_view bytes, std::span<double> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes.data() + i * sizeof(bits), sizeof(bits));
    out[i] = kConvert(bits);
  }
}

template <class T, class Convert>
void Append(std::span<const double> values, std::string& out, Convert convert) {
  const size_t at = out.size();
  out.resize(at + values.size() * sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    const T value = convert(values[i]);
    std::memcpy(out.data() + at + i * sizeof(T), &value, sizeof(T));
  }
}

}  // namespace

bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBf16 || dtype == DType::kF16 || dtype == DType::kF64;
}

void ToDoubles(DType dtype, std::string_view bytes, std::span<double> out) {
  BDH_CHECK(bytes.size() == out.size() * static_cast<size_t>(ElementBytes(dtype)));
  switch (dtype) {
    case DType::kF32:
      return Widen<float>(bytes, out);
    case DType::kBf16:
      return WidenHalves<FromBf16>(bytes, out);
    case DType::kF16:
      return WidenHalves<FromHalf>(bytes, out);
    case DType::kF64:
      return Widen<double>(bytes, out);
    case DType::kI64:
      return Widen<int64_t>(bytes, out);
    case DType::kI32:
      return Widen<int32_t>(bytes, out);
    case DType::kI16:
      return Widen<int16_t>(bytes, out);
    case DType::kI8:
      return Widen<int8_t>(bytes, out);
    case DType::kU8:
    case DType::kBool:
      return Widen<uint8_t>(bytes, out);
  }
}

void AppendFromDoubles(DType dtype, std::span<const double> values, std::string& out) {
  switch (dtype) {
    case DType::kF32:
      return Append<float>(values, out, [](double value) { return static_cast<float>(value); });
    case DType::kBf16:
      return Append<uint16_t>(values, out, ToBf16);
    case DType::kF16:
      return Append<uint16_t>(values, out, ToHalf);
    case DType::kF64:
      return Append<double>(values, out, [](double value) { return value; });
    default:
      BDH_CHECK(false) << "only floats are averaged";
  }
}

}  // namespace bdh::store
