// What a matrix instruction adds to one of its sums: the products of 32 bytes of each operand.
#pragma once
#include <cstdint>

namespace emulator {

constexpr int kRowBytes = 32;
constexpr int kDepth8 = kRowBytes;       // products of 8-bit codes
constexpr int kDepth16 = kRowBytes / 2;  // of 16-bit ones

// Exact; overflow wraps, as without .satfinite.
std::int32_t dot_s8(std::int32_t sum, const std::int8_t* a, const std::int8_t* b);

// FP8 tensor cores do not add like FP32. The 33 addends, the sum before and the 32 exact products, are aligned to the
// largest exponent among them, and each keeps 13 bits of fraction below that leading bit; the rest is cut off toward
// zero. The aligned addends are summed exactly. That Ada and Hopper keep about 14 bits: DeepSeek-V3 technical report,
// section 3.3 (Hopper); SageAttention2 (13 mantissa bits, Ada). This is a model of what was measured, not a
// specification. Operands are the values of e4m3 codes.
float dot_e4m3(float sum, const float* a, const float* b);

// 16-bit floats: the 16 products are exact, all is added up in double precision, and what a float cannot hold is cut
// off toward zero. A model too: tensor cores truncate (Fasi et al., Numerical behavior of NVIDIA tensor cores, 2021),
// but after aligning the addends as above, with more bits, and some of them before others.
float dot_16(float sum, const double* a, const double* b);

// The values of `count` codes.
void decode_s8(const std::uint8_t* codes, int count, std::int8_t* values);
void decode_e4m3(const std::uint8_t* codes, int count, float* values);
void decode_f16(const std::uint8_t* codes, int count, double* values);
void decode_bf16(const std::uint8_t* codes, int count, double* values);

}  // namespace emulator
