#include "dot.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "numbers.h"

namespace emulator {

std::int32_t dot_s8(std::int32_t sum, const std::int8_t* a, const std::int8_t* b) {
  std::int32_t products = 0;
  for (int k = 0; k < kDepth8; ++k) products += a[k] * b[k];
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) + static_cast<std::uint32_t>(products));
}

namespace {

constexpr int kFractionBits = 13;
constexpr int kLanes = 4;
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t Integers __attribute__((vector_size(4 * kLanes)));

// Whatever is added to NaN or infinity.
float not_finite(float sum, const float* a, const float* b) {
  double all = sum;
  for (int k = 0; k < kDepth8; ++k) all += static_cast<double>(a[k]) * b[k];
  return static_cast<float>(all);
}

// 2^exponent, of a normal number.
float power_of_two(int exponent) {
  const std::uint32_t bits = static_cast<std::uint32_t>(exponent + 127) << 23;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

int exponent_of(float normal) {
  std::uint32_t bits;
  std::memcpy(&bits, &normal, sizeof bits);
  return static_cast<int>(bits >> 23 & 255) - 127;
}

}  // namespace

// Products of two e4m3 values are exact in a float, and so is their division by a power of two.
float dot_e4m3(float sum, const float* a, const float* b) {
  Floats products[kDepth8 / kLanes];
  Floats most = {};
  Floats total = {};
  for (int i = 0; i < kDepth8 / kLanes; ++i) {
    Floats left, right;
    std::memcpy(&left, a + kLanes * i, sizeof left);
    std::memcpy(&right, b + kLanes * i, sizeof right);
    products[i] = left * right;
    const Floats size = products[i] < 0 ? -products[i] : products[i];
    most = size > most ? size : most;
    total += products[i];  // of anything and NaN is NaN
  }
  float largest = std::fabs(sum);
  float probe = sum;
  for (int lane = 0; lane < kLanes; ++lane) {
    largest = largest > most[lane] ? largest : most[lane];
    probe += total[lane];
  }
  if (!std::isfinite(probe)) return not_finite(sum, a, b);
  if (largest == 0) return 0;
  constexpr float kSmallest = 1e-30f;  // a sum far below every product, which is the largest only where all are zero
  if (largest < kSmallest) {
    const double unit = std::ldexp(1, std::ilogb(largest) - kFractionBits);
    return static_cast<float>(std::trunc(sum / unit) * unit);
  }
  const int shift = kFractionBits - exponent_of(largest);
  const float scale = power_of_two(shift);
  Integers kept = {};
  for (const Floats& each : products) kept += __builtin_convertvector(each * scale, Integers);  // toward zero
  std::int32_t all = static_cast<std::int32_t>(sum * scale);
  for (int lane = 0; lane < kLanes; ++lane) all += kept[lane];
  return static_cast<float>(static_cast<double>(all) * power_of_two(-shift));
}

float dot_16(float sum, const double* a, const double* b) {
  double all = sum;
  for (int k = 0; k < kDepth16; ++k) all += a[k] * b[k];
  float nearest = static_cast<float>(all);
  if (!std::isinf(nearest) && std::fabs(nearest) > std::fabs(all)) {
    std::uint32_t bits;
    std::memcpy(&bits, &nearest, sizeof bits);
    --bits;  // the neighbour that is nearer to zero
    std::memcpy(&nearest, &bits, sizeof bits);
  }
  return nearest + 0.0f;  // aligned addends have no sign where they are zero
}

void decode_s8(const std::uint8_t* codes, int count, std::int8_t* values) {
  std::memcpy(values, codes, static_cast<std::size_t>(count));
}

void decode_e4m3(const std::uint8_t* codes, int count, float* values) {
  static const struct Table {
    float value[256];
    Table() {
      for (int code = 0; code < 256; ++code) {
        value[code] = static_cast<float>(e4m3_value(static_cast<unsigned char>(code)));
      }
    }
  } table;
  for (int i = 0; i < count; ++i) values[i] = table.value[codes[i]];
}

void decode_f16(const std::uint8_t* codes, int count, double* values) {
  static const struct Table {
    std::vector<float> value;
    Table() {
      for (int code = 0; code < 65536; ++code) value.push_back(f16_value(static_cast<unsigned short>(code)));
    }
  } table;
  for (int i = 0; i < count; ++i) {
    std::uint16_t code;
    std::memcpy(&code, codes + 2 * i, sizeof code);
    values[i] = table.value[code];
  }
}

void decode_bf16(const std::uint8_t* codes, int count, double* values) {
  for (int i = 0; i < count; ++i) {
    std::uint16_t code;
    std::memcpy(&code, codes + 2 * i, sizeof code);
    values[i] = bf16_value(code);
  }
}

}  // namespace emulator
