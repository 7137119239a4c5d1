// 2:4 sparse weights for sm90_swap_ab.cuh: kept values in rows of 64 bytes a step, and two words of metadata for each
// thread, step and 64 channels.
#pragma once
#include "sm90_swap_ab.cuh"
#include "wgmma_sparse.cuh"

// Self::wgmma multiplies one instruction's share: 32 bytes of kept values with 64 bytes of tokens.
template <class Self, class Sum, bool PROMOTE>
struct Sparse {
  typedef Sum Accumulator;
  typedef NoScale Scale;
  static constexpr bool SCALED = false, PROMOTED = PROMOTE;
  static constexpr s32 VALUE_BYTES = TILE_N * 64, META_BYTES = 1024;  // META_BYTES: of 64 channels
  static constexpr s32 BYTES = VALUE_BYTES + TILE_N / 64 * META_BYTES;
  static DEVICE float value(Sum sum) { return static_cast<float>(sum); }

  // Maps: values in boxes of TILE_N rows of 64 bytes, swizzled in 64; metadata as rows of 128 bytes.
  static DEVICE void load(const HopperSwapArguments& args, u8* weight, u64* full, s32 step, s32 channel) {
    tma_load(weight, &args.weight, full, step * 64, channel);
    // Metadata that names a column twice is not allowed anywhere, so a tile beyond the last channel takes the last one's:
    // its values are zeros.
    const s32 row = min(channel / 8, args.weight_rows - TILE_N / 8);
    tma_load(weight + VALUE_BYTES, &args.metadata, full, 0, step * args.weight_rows + row);
  }

  // Starts one step: sums of this warpgroup, plus the sums before where `add`.
  static DEVICE void multiply(Sums<Self>& sums, const Shared<Self>& shared, u32 stage, u32 group, bool add) {
    const u8* weight = shared.weight(stage);
    uint2 metadata[BLOCKS_N];
#pragma unroll
    for (s32 i = 0; i < BLOCKS_N; i++)
      metadata[i] = *reinterpret_cast<const uint2*>(weight + VALUE_BYTES + (group * BLOCKS_N + i) * META_BYTES +
                                                    threadIdx.x % GROUP * 8);
    const u64 right = wgmma_descriptor(shared.tokens(stage));
    wgmma_fence();
#pragma unroll
    for (s32 i = 0; i < BLOCKS_N; i++) {
      const u64 left = wgmma_descriptor_64(weight + (group * GROUP_N + 64 * i) * 64);
      Self::wgmma(sums.partial[i], left, right, metadata[i].x, add);
      Self::wgmma(sums.partial[i], left + 2, right + 4, metadata[i].y, true);
    }
    wgmma_commit();
  }

  // All of K for one tile.
  static DEVICE void accumulate(const HopperSwapArguments& args, Sums<Self>& sums, const Shared<Self>& shared, Turn& turn,
                                u32 group, s32) {
    const Barriers barriers = shared.barriers();
    u32 before = 0;
    for (s32 k = 0; k < args.k; k += TILE_K, turn.advance()) {
      barriers.wait_full(turn);
      multiply(sums, shared, turn.stage, group, !PROMOTED && k > 0);
      __syncwarp();  // all lanes have read their metadata before one gives the stage back
      if constexpr (PROMOTED) {
        wgmma_wait<0>();
        barriers.release(turn.stage);
        const NoScale none[BLOCKS_N] = {};
        sums.promote(none);
      } else if (k > 0) {
        wgmma_wait<1>();
        barriers.release(before);
      }
      before = turn.stage;
    }
    if constexpr (!PROMOTED) {
      wgmma_wait<0>();
      barriers.release(before);
    }
  }
};
