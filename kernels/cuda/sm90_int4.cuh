// Four-bit weights for sm90_swap_ab.cuh: unpacked into the registers that wgmma reads, one instruction ahead of it.
//
// Registers of an instruction under way are nobody's. There are two sets: while one is multiplied the other is filled,
// and after a wait that leaves one group under way the next may be filled.
#pragma once
#include "int4.cuh"
#include "sm90_swap_ab.cuh"
#include "wgmma_registers.cuh"

struct Int4 {
  static constexpr bool SCALED = true;
  static constexpr s32 SLABS = 2 / bytes_of(IN);          // of 64 columns, in a step
  static constexpr s32 SLAB_BYTES = TILE_N / 16 * 512;    // of the tile's channels
  static constexpr s32 BYTES = SLABS * SLAB_BYTES;
  static constexpr s32 STEPS = TILE_K / 32;               // instructions of a step
  static constexpr s32 GROUP_STEPS = STEPS / GROUPS_OF_STEP;  // of which so many share a scale

  // Map: rows of 128 bytes, four for 16 channels of a slab.
  static DEVICE void load(const HopperSwapArguments& args, u8* weight, u64* full, s32 step, s32 channel) {
#pragma unroll
    for (s32 slab = 0; slab < SLABS; slab++)
      tma_load(weight + slab * SLAB_BYTES, &args.weight, full, 0,
               (step * SLABS + slab) * args.weight_rows + channel / 4);
  }

  // This thread's words of a step, 16 bytes for each slab.
  static DEVICE void read(u32 (&words)[4 * SLABS], const u8* weight, s32 block) {
#pragma unroll
    for (s32 slab = 0; slab < SLABS; slab++) {
      const uint4 own = *reinterpret_cast<const uint4*>(weight + slab * SLAB_BYTES + block * 2048 +
                                                        threadIdx.x % GROUP * 16);
      words[4 * slab] = own.x, words[4 * slab + 1] = own.y, words[4 * slab + 2] = own.z, words[4 * slab + 3] = own.w;
    }
  }
};

// All of K for one tile. Format::unpack(values, words, step, scale) fills the registers of one instruction.
template <class Format>
DEVICE void accumulate_int4(const HopperSwapArguments& args, Sums<Format>& sums, const Shared<Format>& shared, Turn& turn,
                            u32 group, s32 channel) {
  const Barriers barriers = shared.barriers();
  const s32 steps = (args.k + TILE_K - 1) / TILE_K;
  Scales<Format> scales, next;
  u32 values[2][BLOCKS_N][4];
  u32 before = 0;
  bool add = false;
  next.load(args, channel, 0);
  for (s32 step = 0; step < steps; step++, turn.advance()) {
    scales = next;
    next.load(args, channel, step + 1);
    barriers.wait_full(turn);
    u32 words[BLOCKS_N][4 * Int4::SLABS];
#pragma unroll
    for (s32 i = 0; i < BLOCKS_N; i++) Int4::read(words[i], shared.weight(turn.stage), group * BLOCKS_N + i);
    __syncwarp();  // all lanes have read before one gives the stage back
    const u64 right = wgmma_descriptor(shared.tokens(turn.stage));
#pragma unroll
    for (s32 k = 0; k < Int4::STEPS; k++) {
      const s32 of = k / Int4::GROUP_STEPS;
#pragma unroll
      for (s32 i = 0; i < BLOCKS_N; i++) Format::unpack(values[k % 2][i], words[i], k, scales.of[of][i]);
      wgmma_fence();
#pragma unroll
      for (s32 i = 0; i < BLOCKS_N; i++) Format::wgmma(sums.partial[i], values[k % 2][i], right + 2 * k, add);
      wgmma_commit();
      add = true;
      bool ends = Format::PROMOTED && (k + 1) % Int4::GROUP_STEPS == 0;
      if (GROUPS_OF_STEP == 1) ends = ends && ((step + 1) % args.promote_steps == 0 || step + 1 == steps);
      if (!ends) {
        wgmma_wait<1>();
      } else if constexpr (Format::PROMOTED) {
        wgmma_wait<0>();
        sums.promote(scales.of[of]);
        add = false;
      }
      if (k == 0 && step > 0) barriers.release(before);
    }
    before = turn.stage;
  }
  wgmma_wait<0>();
  barriers.release(before);
}

// Of 8-bit codes, whose groups are summed by themselves. Self::two makes the registers of an instruction of two words.
template <class Self, class Sum>
struct Int4Codes : Int4 {
  typedef Sum Accumulator;
  typedef SumScale Scale;
  static constexpr bool PROMOTED = true;

  static DEVICE void unpack(u32 (&values)[4], const u32 (&words)[4 * SLABS], s32 step, const Scale&) {
    Self::two(values, words[2 * step], words[2 * step + 1]);
  }

  static DEVICE void accumulate(const HopperSwapArguments& args, Sums<Self>& sums, const Shared<Self>& shared,
                                Turn& turn, u32 group, s32 channel) {
    accumulate_int4(args, sums, shared, turn, group, channel);
  }
};
