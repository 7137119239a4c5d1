// What a matrix instruction adds to one of its sums: 32 products of 8-bit codes.
#pragma once
#include <cstdint>

namespace emulator {

constexpr int kDepth = 32;

// Exact; overflow wraps, as without .satfinite.
std::int32_t dot_s8(std::int32_t sum, const std::int8_t* a, const std::int8_t* b);

// FP8 tensor cores do not add like FP32. The 33 addends, the sum before and the 32 exact products, are aligned to the
// largest exponent among them, and each keeps 13 bits of fraction below that leading bit; the rest is cut off toward
// zero. The aligned addends are summed exactly. That Ada and Hopper keep about 14 bits: DeepSeek-V3 technical report,
// section 3.3 (Hopper); SageAttention2 (13 mantissa bits, Ada). This is a model of what was measured, not a
// specification. Operands are the values of e4m3 codes.
float dot_e4m3(float sum, const float* a, const float* b);

// The values of codes, for `dot_e4m3`.
void decode_e4m3(const std::uint8_t* codes, int count, float* values);

}  // namespace emulator
