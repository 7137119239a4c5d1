// Four-bit weights for mma_swap_ab.cuh: codes as fragments, 16 bytes a lane and slab, unpacked in registers.
#pragma once
#include "int4.cuh"
#include "mma_swap_ab.cuh"

// What all have in common. STEPS: of 32 bytes of a token's row, each an instruction.
struct Int4 {
  static constexpr bool SPARSE = false, SCALED = true, INTEGERS = false;
  static constexpr s32 BYTES = 512, STEPS = 2;
  struct Left {
    u32 values[STEPS][4];
  };

  // The lane's words of 16 rows of a slab. Read anew for each half of it: they would take registers from sums.
  static DEVICE void read(u32 (&words)[4], const u8* weight, s32 lane) {
    const uint4 own = *reinterpret_cast<const uint4*>(weight + lane * 16);
    words[0] = own.x, words[1] = own.y, words[2] = own.z, words[3] = own.w;
  }
};

// Of 8-bit codes, whose groups are summed by themselves. Self::two makes the fragment of an instruction of two words.
template <class Self, class Sum>
struct Int4Codes : Int4 {
  typedef Sum Accumulator;
  typedef SumScale Scale;
  static constexpr bool PROMOTED = true;

  template <s32>
  static DEVICE void prepare(Left& left, const u8* weight, const u8*, s32 lane, const Scale&) {
    u32 words[4];
    read(words, weight, lane);
#pragma unroll
    for (s32 step = 0; step < STEPS; step++)
      Self::two(left.values[step], words[2 * step], words[2 * step + 1]);
  }
};
