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
