#include "fma.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "numbers.h"

namespace emulator {

namespace {

struct Format {
  int fraction;  // bits of it
  int smallest;  // exponent of a normal number
  float (*value)(unsigned short);
};

constexpr Format kF16 = {10, -14, f16_value};
constexpr Format kBf16 = {7, -126, bf16_value};

// Where the sum is not exact, its odd neighbour: the one of the two around it whose last bit is 1. What is then rounded
// to far fewer bits is as if it had been rounded once (Boldo and Melquiond, Emulation of FMA and correctly rounded
// sums: proved algorithms using rounding to odd, 2008). Here no addend is so large or small that a double would lack
// exponents.
double sum_to_odd(double x, double y) {
  const double sum = x + y;
  if (!std::isfinite(sum)) return sum;
  const double part = sum - x;
  const double error = (x - (sum - part)) + (y - part);  // exact (Knuth)
  std::uint64_t bits;
  std::memcpy(&bits, &sum, sizeof bits);
  if (error == 0 || (bits & 1) == 1) return sum;
  bits += (error > 0) == (sum > 0) ? 1 : -1;
  double odd;
  std::memcpy(&odd, &bits, sizeof odd);
  return odd;
}

unsigned nearest(double value, const Format& format) {
  if (std::isnan(value)) return 0x7FFF;
  const unsigned sign = std::signbit(value) ? 0x8000 : 0;
  const unsigned infinity = (0x7FFFu >> format.fraction) << format.fraction;
  const double size = std::fabs(value);
  if (std::isinf(size)) return sign | infinity;
  const int exponent = size < std::ldexp(1, format.smallest) ? format.smallest : std::ilogb(size);
  // In units of the last place; nearbyint rounds ties to even. A carry into the next exponent adds up by itself.
  const auto units = static_cast<unsigned>(std::nearbyint(std::ldexp(size, format.fraction - exponent)));
  const unsigned bits = (static_cast<unsigned>(exponent - format.smallest) << format.fraction) + units;
  return sign | std::min(bits, infinity);
}

// Products of two such values are exact in double precision.
unsigned both(unsigned a, unsigned b, unsigned c, const Format& format) {
  unsigned result = 0;
  for (int half = 0; half < 32; half += 16) {
    const auto value = [&](unsigned word) -> double { return format.value(static_cast<unsigned short>(word >> half)); };
    result |= nearest(sum_to_odd(value(a) * value(b), value(c)), format) << half;
  }
  return result;
}

}  // namespace

unsigned fma_f16x2(unsigned a, unsigned b, unsigned c) { return both(a, b, c, kF16); }
unsigned fma_bf16x2(unsigned a, unsigned b, unsigned c) { return both(a, b, c, kBf16); }

}  // namespace emulator
