// 2:4 sparse weights for mma_swap_ab.cuh: kept values as fragments, and a word of metadata for each lane and slab.
#pragma once
#include "mma_swap_ab.cuh"

// A slab has IN_BYTES instructions. Values: of each 16 bytes a lane.
template <class Sum, bool PROMOTE, bool INTEGER = false>
struct Sparse {
  typedef Sum Accumulator;
  typedef NoScale Scale;
  static constexpr bool SPARSE = true, SCALED = false, PROMOTED = PROMOTE, INTEGERS = INTEGER;
  static constexpr s32 BYTES = 512 * IN_BYTES, STEPS = 1;
  struct Left {
    u32 values[4], metadata;
  };
  static DEVICE float value(Sum sum) { return static_cast<float>(sum); }

  template <s32 HALF>
  static DEVICE void prepare(Left& left, const u8* values, const u8* metadata, s32 lane, const NoScale&) {
    const uint4 own = *reinterpret_cast<const uint4*>(values + chunk_place<BYTES>(IN_BYTES * lane + HALF) * 16);
    left.values[0] = own.x, left.values[1] = own.y, left.values[2] = own.z, left.values[3] = own.w;
    if (HALF == 0) left.metadata = *reinterpret_cast<const u32*>(metadata + lane * 4);
  }
};
