// Scales and zero points of four-bit weights, one for each group of columns of a row, as kernels read them: by group,
// then by block of 16 rows, and within it rows g and g + 8 beside each other, so that a lane reads both of its at once.
//
// Compile-time: GROUPS_OF_STEP (scales of one row in a step of the kernel, 1 where steps share them), ASYMMETRIC (are
// there zero points?), OWN_SCALES (are scales of weights of the dtype IN of the other operand?).
#pragma once
#include "numbers.cuh"

struct GroupScales {
  const void* scales;        // [groups, 16 blocks]
  const signed char* zeros;  // the same; null where the code 0 means 0
  s32 groups, blocks;        // blocks: of 16 rows
  s32 steps;                 // of the kernel, that share a scale where none has several
  s32 dtype;                 // of scales

  // Where this lane's two rows of a block are, of group `within` of the step. Steps and blocks that do not exist read
  // others'.
  DEVICE s64 place(s32 step, s32 within, s32 block) const {
    const s32 group = GROUPS_OF_STEP == 1 ? step / steps : GROUPS_OF_STEP * step + within;
    return (static_cast<s64>(min(group, groups - 1)) * blocks + min(block, blocks - 1)) * 16 + threadIdx.x % 32 / 4 * 2;
  }
};

// Of rows g and g + 8, for sums.
struct SumScale {
  float of[2];
  DEVICE void load(const GroupScales& from, s64 place) { load_vector(of, from.scales, from.dtype, place); }
};

// The same for weights: two of the dtype of the other operand in a register, or each in one; zero points in another.
struct WeightScale {
  u32 both, zeros;
  float each[2];
  DEVICE void load(const GroupScales& from, s64 place) {
    if constexpr (OWN_SCALES) {
      both = *reinterpret_cast<const u32*>(static_cast<const u16*>(from.scales) + place);
    } else {
      load_vector(each, from.scales, from.dtype, place);
    }
    zeros = ASYMMETRIC ? *reinterpret_cast<const u16*>(from.zeros + place) : 0;
  }
};

// For weights that have no such scales.
struct NoScale {
  float of[2];
  DEVICE void load(const GroupScales&, s64) {}
};
