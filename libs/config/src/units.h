// Numbers with a unit behind them: 256MiB, 30s, 100k.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bdh::config {

// Units that a key accepts whose rule says `unit` ("bytes", "seconds", "tokens", ...), for people: "B, kB,
// MB,
// ...". Empty: it takes plain numbers alone.
std::string UnitsOf(std::string_view unit);

// "256MiB", "1.5 GiB": digits, perhaps a fraction, perhaps one space, letters.
bool LooksLikeQuantity(std::string_view text);

enum class Quantity { kOk, kUnknownUnit, kFraction, kOverflow };

// The number `text` stands for, counted in `unit`. `text` looks like a quantity. Exact: a number of bytes
// that is not whole is kFraction.
Quantity ParseQuantity(std::string_view text, std::string_view unit, int64_t& value);
Quantity ParseQuantity(std::string_view text, std::string_view unit, double& value);

}  // namespace bdh::config
