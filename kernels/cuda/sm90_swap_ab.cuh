// out [M, N] = epilogue(a [M, K] weight [N, K]^T) by wgmma with the weight as the left operand: the matmul of 2:4 and of
// 4-bit weights on Hopper.
//
// Only the left operand of wgmma may be sparse, and only it may come from registers, where 4-bit weights are unpacked; so
// the product is transposed, [channels, tokens], and swap_epilogue.cuh says how it is written. sm90_pipeline.cuh says who
// does what: CLUSTER blocks are tiles of neighbouring channels, and share the tokens.
//
// A step is 128 bytes of a token's row. A block computes GROUPS x GROUP_N channels for TILE_M tokens. Format says what
// the weight of a step is, how it is loaded and multiplied.
//
// M, N and K are arbitrary but for rows of a that begin at multiples of 16 bytes: what lies outside of a is zeros; blocks
// of weight that do not exist are zeros or others once more, and nobody stores their sums.
//
// Compile-time: TILE_M, GROUPS (of mathematicians), GROUP_N (channels of each, 64 or 128), STAGES, CLUSTER, IN (Dtype of
// a), GROUPS_OF_STEP, ASYMMETRIC and OWN_SCALES (int4_scales.cuh), FAST_SUMS, ALIGNED (rows.cuh), OUT, ACTIVATE, PARTS,
// BLOCK_SCALES (epilogue.cuh).
#pragma once
#include "int4_scales.cuh"
#include "sm90_pipeline.cuh"
#include "swap_epilogue.cuh"

struct HopperSwapArguments {
  TensorMap a;         // boxes of TILE_M / CLUSTER rows, 128 bytes wide
  TensorMap weight;    // as Format::load takes it
  TensorMap metadata;  // where sparse
  void* out;           // [M, N] contiguous
  s32 m, n, k;         // k: bytes of a row
  s32 weight_rows;     // rows of the map of the weight in a slab, or of metadata in a step
  s32 promote_steps;   // after so many, sums are promoted
  GroupScales scales;
  Epilogue epilogue;
  u8 unused[40];  // up to a multiple of 64 bytes, to which maps are aligned
};

constexpr s32 TILE_N = GROUPS * GROUP_N;
constexpr s32 TOKEN_BYTES = TILE_M * TILE_K;
constexpr s32 BLOCKS_N = GROUP_N / 64;  // of wgmma, for each mathematician
constexpr s32 SUMS = TILE_M / 2;        // of a thread in each
constexpr s32 STAGED_TOKENS = 32;
constexpr s32 STAGING_BYTES = STAGED_TOKENS * STAGED_ROW<64> * 4;  // of each mathematician

static_assert(GROUP_N == 64 || GROUP_N == 128, "wgmma has 64 rows");
static_assert(TILE_M % STAGED_TOKENS == 0, "the epilogue stages so many tokens");
static_assert(TILE_M / CLUSTER % 8 == 0, "each part of the tokens begins where the swizzle does");

// What lies in shared memory, from its beginning: stages, of tokens and then the weight; barriers; staging.
template <class Format>
struct Shared {
  u8* base;
  DEVICE u8* tokens(u32 stage) const { return base + stage * (TOKEN_BYTES + Format::BYTES); }
  DEVICE u8* weight(u32 stage) const { return tokens(stage) + TOKEN_BYTES; }
  DEVICE Barriers barriers() const { return {reinterpret_cast<u64*>(tokens(STAGES))}; }
  DEVICE float* staging(u32 group) const {
    return reinterpret_cast<float*>(tokens(STAGES) + 16 * STAGES + group * STAGING_BYTES);
  }
};

// What a thread accumulates: Format::Accumulator by the instruction, promoted into floats where the format asks for it.
template <class Format>
struct Sums {
  typename Format::Accumulator partial[BLOCKS_N][SUMS];
  float total[Format::PROMOTED ? BLOCKS_N : 1][Format::PROMOTED ? SUMS : 1];

  // Elements 0 and 1 of each four are of row g, 2 and 3 of row g + 8.
  DEVICE void promote(const typename Format::Scale (&scales)[BLOCKS_N]) {
#pragma unroll
    for (s32 i = 0; i < BLOCKS_N; i++)
#pragma unroll
      for (s32 e = 0; e < SUMS; e++) {
        const float sum = Format::value(partial[i][e]);
        total[i][e] += Format::SCALED ? sum * scales[i].of[e / 2 % 2] : sum;
      }
  }

  DEVICE void clear() {
    if constexpr (Format::PROMOTED) {
#pragma unroll
      for (s32 i = 0; i < BLOCKS_N * SUMS; i++) total[i / SUMS][i % SUMS] = 0.0f;
    }
  }

  DEVICE float value(s32 i, s32 e) const {
    if constexpr (Format::PROMOTED) {
      return total[i][e];
    } else {
      return Format::value(partial[i][e]);
    }
  }
};

// The scales of a thread's rows in one step, as they are in memory: read a step before they are used.
template <class Format>
struct Scales {
  typename Format::Scale of[GROUPS_OF_STEP][BLOCKS_N];

  // `channel`: the first of the warpgroup.
  DEVICE void load(const HopperSwapArguments& args, s32 channel, s32 step) {
    if constexpr (Format::SCALED) {
      const s32 block = channel / 16 + threadIdx.x % GROUP / 32;
#pragma unroll
      for (s32 group = 0; group < GROUPS_OF_STEP; group++)
#pragma unroll
        for (s32 i = 0; i < BLOCKS_N; i++)
          of[group][i].load(args.scales, args.scales.place(step, group, block + 4 * i));
    }
  }
};

// 32 tokens at a time through shared memory, each warpgroup in a place of its own.
template <class Format>
DEVICE void store_tile(const HopperSwapArguments& args, const Sums<Format>& sums, float* staging, u32 group, s32 token,
                       s32 channel) {
  const s32 thread = threadIdx.x % GROUP, lane = thread % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (s32 i = 0; i < BLOCKS_N; i++)
#pragma unroll
    for (s32 first = 0; first < TILE_M; first += STAGED_TOKENS) {
#pragma unroll
      for (s32 j = 0; j < STAGED_TOKENS; j += 8)
#pragma unroll
        for (s32 half = 0; half < 2; half++) {
          const s32 e = (first + j) / 2 + 2 * half;
          stage_pair<64>(staging, j + 2 * t, 16 * (thread / 32) + g + 8 * half, sums.value(i, e), sums.value(i, e + 1));
        }
      barrier_sync(1 + group, GROUP);
      store_staged<64, STAGED_TOKENS, GROUP>(staging, args.epilogue, args.out, {token + first, channel + 64 * i},
                                             args.m, args.n, thread);
      barrier_sync(1 + group, GROUP);  // all have read before the next tokens are written
    }
}

template <class Format>
struct SwapGemm {
  const HopperSwapArguments& args;
  Shared<Format> shared;
  Tiles<TILE_N, TILE_M> tiles;

  DEVICE void produce() const {
    const Barriers barriers = shared.barriers();
    Tiles<TILE_N, TILE_M> own = tiles;
    Turn turn;
    s32 channel, token;
    while (own.take(channel, token)) {
      for (s32 k = 0; k < args.k; k += TILE_K, turn.advance()) {
        u64* full = barriers.full(turn.stage);
        barriers.wait_empty(turn);
        mbarrier_expect_bytes(full, TOKEN_BYTES + Format::BYTES);
        Format::load(args, shared.weight(turn.stage), full, k / TILE_K, channel);
        load_right<TILE_M>(shared.tokens(turn.stage), &args.a, full, k, token, own.rank);
      }
    }
  }

  DEVICE void compute(u32 group) const {
    Tiles<TILE_N, TILE_M> own = tiles;
    Sums<Format> sums;
    Turn turn;
    s32 channel, token;
    while (own.take(channel, token)) {
      channel += group * GROUP_N;
      sums.clear();
      Format::accumulate(args, sums, shared, turn, group, channel);
      store_tile(args, sums, shared.staging(group), group, token, channel);
    }
  }
};

template <class Format>
DEVICE void sm90_swap_ab(const HopperSwapArguments& args) {
  SHARED_MEMORY(memory);
  const Shared<Format> shared = {memory};
  const u32 rank = CLUSTER == 1 ? 0 : cluster_rank();
  specialize(SwapGemm<Format>{args, shared, Tiles<TILE_N, TILE_M>(args.n, args.m, rank)}, shared.barriers());
}
