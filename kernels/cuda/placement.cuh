// Which part of a matmul a block computes, and what all matmuls agree on.
#pragma once
#include "ptx.cuh"

// Of K and of N: one scale where scales are by block, and the stretch of K after which FP8 sums are promoted.
constexpr s32 SCALE_BLOCK = 128;
constexpr s32 SUPERTILE = 8;

DEVICE u32 count_tiles(s32 size, s32 tile) { return (size + tile - 1) / tile; }

// Blocks in flight at one time should share what they read: the order goes down SUPERTILE tiles of M, then along N.
template <s32 HEIGHT, s32 WIDTH>
DEVICE void place_tile(u32 index, s32 m, s32 n, s32& row, s32& column) {
  const u32 tiles_m = count_tiles(m, HEIGHT), tiles_n = count_tiles(n, WIDTH);
  const u32 above = index / (SUPERTILE * tiles_n) * SUPERTILE, within = index % (SUPERTILE * tiles_n);
  const u32 height = min(static_cast<u32>(SUPERTILE), tiles_m - above);
  row = (above + within % height) * HEIGHT;
  column = within / height * WIDTH;
}
