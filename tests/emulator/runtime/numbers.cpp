#include "numbers.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace emulator {

// 1 sign, 4 exponent bits with bias 7, 3 of fraction; no infinity, and S.1111.111 is NaN.
double e4m3_value(unsigned char code) {
  const int exponent = code >> 3 & 15;
  const int fraction = code & 7;
  if (exponent == 15 && fraction == 7) return std::numeric_limits<double>::quiet_NaN();
  const double size = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return code & 0x80 ? -size : size;
}

// By search among the values there are: nothing here knows of roundings or subnormals.
unsigned char to_e4m3(float value) {
  if (std::isnan(value)) return 0x7F;
  constexpr unsigned char kLargest = 0x7E;
  const double size = std::fabs(value);
  const unsigned char sign = std::signbit(value) ? 0x80 : 0;
  unsigned char below = 0;
  for (unsigned char step = 64; step > 0; step /= 2) {
    const unsigned char next = below + step;
    if (next <= kLargest && e4m3_value(next) <= size) below = next;
  }
  if (below == kLargest) return sign | kLargest;
  const unsigned char above = below + 1;
  const double down = size - e4m3_value(below);
  const double up = e4m3_value(above) - size;
  const bool round_up = up < down || (up == down && above % 2 == 0);
  return sign | (round_up ? above : below);
}

static std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

unsigned short to_bf16(float value) {
  if (std::isnan(value)) return 0x7FFF;
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t odd = bits >> 16 & 1;
  return static_cast<unsigned short>((bits + 0x7FFF + odd) >> 16);
}

float bf16_value(unsigned short bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

unsigned short to_f16(float value) {
  if (std::isnan(value)) return 0x7FFF;
  const unsigned sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fabs(static_cast<double>(value));
  constexpr double kInfiniteFrom = 65520;  // halfway between the largest half and the next power of two
  if (size >= kInfiniteFrom) return static_cast<unsigned short>(sign | 0x7C00);
  const int exponent = size < std::ldexp(1, -14) ? -14 : std::ilogb(size);
  // In units of the last place; nearbyint rounds ties to even. A carry into the next exponent adds up by itself.
  const unsigned units = static_cast<unsigned>(std::nearbyint(std::ldexp(size, 10 - exponent)));
  const unsigned bits = static_cast<unsigned>(exponent + 14) * 1024 + units;
  return static_cast<unsigned short>(sign | bits);
}

float f16_value(unsigned short bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 31) {
    if (fraction == 0) return static_cast<float>(sign * std::numeric_limits<double>::infinity());
    const std::uint32_t nan = static_cast<std::uint32_t>(bits & 0x8000) << 16 | 0x7FC00000u |
                              static_cast<std::uint32_t>(fraction) << 13;
    float value;
    std::memcpy(&value, &nan, sizeof value);
    return value;
  }
  const double size = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return static_cast<float>(sign * size);
}

}  // namespace emulator
