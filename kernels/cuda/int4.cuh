// Four-bit weights to matrix fragments in registers, two or four values an instruction, all exact.
//
// A lane's word holds eight codes of an A fragment in the order that kernels/layouts/int4_fragments.py gives them.
//
// bf16 and fp16: a code is stored as n + 8, four bits u. OR-ed below the leading bit of a number whose unit in the last
// place is 1, they add u to it: 0x4300 | u is 128 + u in bf16, 0x6400 | u is 1024 + u in fp16; one place further left,
// 0x6400 | u << 4 is 1024 + 16 u. Both halves of a register at once, by one LOP3. Subtracting 128 + 8 + z leaves n - z, a
// small integer that every step of this holds exactly; the product with the scale is then rounded once, as the
// reference rounds (code - zero) * scale. A scale of another dtype is multiplied in FP32 first, as there.
//
// INT8: codes are two's complement, and a code in the upper half of a byte is 16 n: one AND for four of them, and a shift
// for every second. Sums are then 16 times too large, which is exact, and so is their division by 16.
//
// e4m3: all 16 codes are e4m3 numbers. PRMT looks four of them up by their lower three bits, once in the table of 0 to 7
// and once in that of -8 to -1, and their signs, spread over bytes, choose.
#pragma once
#include "int4_scales.cuh"

// What turns codes of one row into numbers: minus what has to be subtracted from them, in pairs, and the scale.
template <s32 DTYPE>
struct RowScale {
  u32 minus, minus_16;  // minus_16: for fp16 codes that stand 4 bits to the left
  u32 scale;            // twice
  float wide;           // where it is of another dtype

  // `row`: 0 or 1, of the two of a lane.
  DEVICE RowScale(const WeightScale& scales, s32 row) {
    const u32 above = static_cast<u32>(static_cast<signed char>(scales.zeros >> 8 * row) + 8);
    if constexpr (OWN_SCALES) {
      scale = permute_bytes(scales.both, 0, row == 0 ? 0x1010 : 0x3232);
    } else {
      wide = scales.each[row];
    }
    if constexpr (DTYPE == BF16) {
      minus = (0xC300u + above) * 0x10001u;  // -(128 + above)
    } else {
      minus = (0xE400u + above) * 0x10001u;          // -(1024 + above)
      minus_16 = (0xD400u + 16u * above) * 0x10001u;  // -(64 + above)
    }
  }

  // Two small integers times the scale.
  DEVICE u32 times(u32 steps) const {
    if constexpr (!OWN_SCALES) {
      float x[2];
      unpack_pair(x[0], x[1], steps, DTYPE);
      x[0] = x[0] * wide, x[1] = x[1] * wide;
      return pack_2<DTYPE>(x);
    } else if constexpr (DTYPE == BF16) {
      return fma_bf16x2(steps, scale, 0x80008000);
    } else {
      return fma_f16x2(steps, scale, 0x80008000);
    }
  }
};

// One k16 step: a[r] of rows g + 8 (r & 1) from nibbles r (low half) and r + 4.
template <s32 DTYPE>
DEVICE void int4_to_floats(u32 (&a)[4], u32 word, const WeightScale& scales) {
  const RowScale<DTYPE> rows[2] = {{scales, 0}, {scales, 1}};
#pragma unroll
  for (s32 r = 0; r < 4; r++) {
    const RowScale<DTYPE>& row = rows[r & 1];
    if constexpr (DTYPE == BF16) {
      a[r] = row.times(fma_bf16x2((word >> 4 * r & 0x000F000F) | 0x43004300, 0x3F803F80, row.minus));
    } else {
      const u32 pair = word >> 8 * (r / 2);
      a[r] = row.times(r % 2 == 0 ? fma_f16x2((pair & 0x000F000F) | 0x64006400, 0x3C003C00, row.minus)
                                  : fma_f16x2((pair & 0x00F000F0) | 0x64006400, 0x2C002C00, row.minus_16));
    }
  }
}

// One k32 step in INT8: a[r] and a[r + 1] from the even and the odd nibbles of a word, 16 times the codes.
DEVICE void int4_to_s8(u32 (&a)[4], u32 first, u32 second) {
  a[0] = first << 4 & 0xF0F0F0F0, a[1] = first & 0xF0F0F0F0;
  a[2] = second << 4 & 0xF0F0F0F0, a[3] = second & 0xF0F0F0F0;
}

constexpr float INT4_S8_UNIT = 0.0625f;

// Four codes in e4m3, those of the lower half of a word. `signs` says where their signs are.
DEVICE u32 four_e4m3(u32 word, u32 signs) {
  const u32 selector = word & 0x7777;
  const u32 positive = permute_bytes(0x44403800, 0x4E4C4A48, selector);
  const u32 negative = permute_bytes(0xCACCCED0, 0xB8C0C4C8, selector);
  return (positive & ~signs) | (negative & signs);
}

// One k32 step in e4m3: a[r] and a[r + 1] from the even and the odd nibbles of a word.
DEVICE void int4_to_e4m3(u32 (&a)[4], u32 first, u32 second) {
#pragma unroll
  for (s32 r = 0; r < 4; r += 2) {
    const u32 word = r == 0 ? first : second;
    // The sign of an odd nibble is a byte's; that of an even one after a shift. 8 in a selector spreads it.
    const u32 lower = four_e4m3(word, permute_bytes(word << 4, word, 0xD9C8));
    const u32 upper = four_e4m3(word >> 16, permute_bytes(word << 4, word, 0xFBEA));
    a[r] = permute_bytes(lower, upper, 0x6420), a[r + 1] = permute_bytes(lower, upper, 0x7531);
  }
}
