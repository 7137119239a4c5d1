// out [M, N] = epilogue(a [M, K] weight [N, K]^T) by mma.sync with the weight as the left operand: the matmul of 2:4 and
// of 4-bit weights on Ampere and Ada.
//
// Only the left operand of mma.sp may be sparse, and 4-bit weights are unpacked once a warp if it has all tokens of the
// tile beside it; so the product is transposed, [channels, tokens], and swap_epilogue.cuh says how it is written. The
// weight lies in memory in the order of the fragments (kernels/layouts): a lane reads its own 16 bytes, and there is no
// ldmatrix and no swizzle for it. Tokens are copied and read as in mma_gemm.cuh.
//
// A slab is 64 columns of K. A block computes TILE_N channels for TILE_M tokens, in steps of SLABS slabs; STAGES - 1
// steps are on their way while one is multiplied. WARPS_K warps share the slabs of a step and add up their sums in the
// end: for few tokens, where there are too few tiles to fill a GPU and a warp would wait alone for its weights.
//
// M, N and K are arbitrary but for rows of a that begin at multiples of 16 bytes: tokens and columns that do not exist
// are zeros; blocks of weight that do not exist are others once more, and nobody stores their sums.
//
// Compile-time: TILE_N, TILE_M, SLABS, WARP_N, WARP_M, WARPS_K, STAGES, IN (Dtype of a), GROUPS_OF_STEP (scales of one
// row in a slab, 1 or 2), ASYMMETRIC and OWN_SCALES (int4_scales.cuh), FAST_SUMS, ALIGNED (rows.cuh), OUT, ACTIVATE, PARTS,
// BLOCK_SCALES (epilogue.cuh).
#pragma once
#include "int4_scales.cuh"
#include "placement.cuh"
#include "row_copies.cuh"
#include "swap_epilogue.cuh"

struct SwapArguments {
  const u8* a;  // row m at a + m * a_stride, bytes; as all rows a multiple of 16
  s64 a_stride;
  const u8* weight;    // [slabs, blocks] of Format::BYTES
  const u8* metadata;  // where sparse: [slabs, blocks] of META_BYTES
  void* out;           // [M, N] contiguous
  s32 m, n, k;         // k: bytes of a row
  s32 slabs, blocks;   // of 64 columns and of 16 rows
  s32 promote_slabs;   // after so many, sums are promoted
  GroupScales scales;  // a step is a slab
  Epilogue epilogue;
};

constexpr s32 IN_BYTES = bytes_of(IN);
constexpr s32 SLAB_BYTES = 64 * IN_BYTES, ROW_BYTES = SLABS * SLAB_BYTES;  // of a row of a
constexpr s32 META_BYTES = 128;                                            // of 16 rows of a slab
constexpr s32 WARPS_N = TILE_N / WARP_N, WARPS_M = TILE_M / WARP_M, WARPS = WARPS_N * WARPS_M * WARPS_K;
constexpr s32 THREADS = 32 * WARPS;
constexpr s32 BLOCKS_N = WARP_N / 16, BLOCKS_M = WARP_M / 8;  // of mma, for each warp
constexpr s32 OWN_SLABS = SLABS / WARPS_K;                    // of a step, for each warp
constexpr s32 STAGED = 8 * STAGED_ROW<WARP_N>;                // floats of 8 tokens of a warp

static_assert(WARP_N == 32 || WARP_N == 64, "of mma, and of the epilogue's staging");
static_assert(TILE_M % WARP_M == 0 && TILE_N % WARP_N == 0 && SLABS % WARPS_K == 0 && STAGES >= 2, "");

// Where 16 bytes of the weight lie in a stage: lanes that have 32 change their halves' places, every second four of them,
// so that eight lanes that read the same half meet eight times four banks.
template <s32 BYTES>
DEVICE s32 chunk_place(s32 chunk) {
  return BYTES == 1024 ? chunk ^ (chunk >> 3 & 1) : chunk;
}

// The share of one thread in copying a step of the weight, BYTES of each 16 rows of a slab.
template <s32 BYTES>
struct WeightCopier {
  static constexpr s32 CHUNKS_SLAB = TILE_N / 16 * BYTES / 16, CHUNKS = SLABS * CHUNKS_SLAB;
  static constexpr s32 EACH = (CHUNKS + THREADS - 1) / THREADS;
  const u8* base;
  s32 slabs, blocks, first;

  DEVICE void copy(u8* stage, s32 step) const {
#pragma unroll
    for (s32 i = 0; i < EACH; i++) {
      const s32 chunk = threadIdx.x + i * THREADS;
      if (CHUNKS % THREADS != 0 && chunk >= CHUNKS) break;
      const s32 within = chunk % CHUNKS_SLAB;
      const s32 slab = min(step * SLABS + chunk / CHUNKS_SLAB, slabs - 1);
      const s32 block = min(first + within / (BYTES / 16), blocks - 1);
      cp_async_16(stage + chunk_place<BYTES>(chunk) * 16,
                  base + (static_cast<s64>(slab) * blocks + block) * BYTES + within % (BYTES / 16) * 16, 16);
    }
  }
};

// What lies in a stage, from its beginning: tokens, weight, metadata.
template <class Format>
struct Stage {
  static constexpr s32 TOKEN_BYTES = TILE_M * ROW_BYTES, WEIGHT_BYTES = SLABS * (TILE_N / 16) * Format::BYTES;
  static constexpr s32 BYTES = TOKEN_BYTES + WEIGHT_BYTES + (Format::SPARSE ? SLABS * (TILE_N / 16) * META_BYTES : 0);
  u8* base;
  DEVICE u8* tokens() const { return base; }
  DEVICE u8* weight() const { return base + TOKEN_BYTES; }
  DEVICE u8* metadata() const { return weight() + WEIGHT_BYTES; }
};

// What a warp accumulates: Format::Accumulator by the instruction, promoted into floats where the format asks for it.
template <class Format>
struct Sums {
  // Blocks on a multiprocessor for which registers are to suffice: 512 threads of 128 where sums leave room, 384 of 168
  // in small blocks, else 256. Said to the compiler, because left alone it spills for an occupancy that nothing needs.
  static constexpr bool ROOM = WARP_M * WARP_N / 32 * (Format::PROMOTED ? 2 : 1) <= 32;
  static constexpr s32 RESIDENT = (!ROOM ? 256 : THREADS > 128 ? 512 : 384) / THREADS;
  typename Format::Accumulator partial[BLOCKS_N][BLOCKS_M][4];
  float total[Format::PROMOTED ? BLOCKS_N : 1][Format::PROMOTED ? BLOCKS_M : 1][4];

  DEVICE Sums() {
#pragma unroll
    for (s32 i = 0; i < BLOCKS_N; i++)
#pragma unroll
      for (s32 j = 0; j < BLOCKS_M; j++)
#pragma unroll
        for (s32 e = 0; e < 4; e++) {
          partial[i][j][e] = 0;
          if (Format::PROMOTED) total[i][j][e] = 0.0f;
        }
  }

  // Elements 0 and 1 of a fragment are of row g, 2 and 3 of row g + 8.
  DEVICE void promote(s32 i, s32 j, const float (&scale)[2]) {
#pragma unroll
    for (s32 e = 0; e < 4; e++) {
      const float sum = Format::value(partial[i][j][e]);
      total[i][j][e] += Format::SCALED ? sum * scale[e / 2] : sum;
      partial[i][j][e] = 0;
    }
  }

  // As it is staged: where warps have parts of an INT32 sum, its bits.
  static constexpr bool INTEGERS = WARPS_K > 1 && Format::INTEGERS && !Format::PROMOTED;

  DEVICE float value(s32 i, s32 j, s32 e) const {
    if constexpr (Format::PROMOTED) {
      return total[i][j][e];
    } else if constexpr (INTEGERS) {
      return __int_as_float(partial[i][j][e]);
    } else {
      return Format::value(partial[i][j][e]);
    }
  }
};

// The scales of a warp's rows in its slabs of one step, as they are in memory: read a step before they are used.
template <class Format>
struct Scales {
  typename Format::Scale of[OWN_SLABS][GROUPS_OF_STEP][BLOCKS_N];

  // `block`: the first of the warp, `slab`: of the step.
  DEVICE void load(const SwapArguments& args, s32 block, s32 slab) {
    if constexpr (Format::SCALED) {
#pragma unroll
      for (s32 own = 0; own < OWN_SLABS; own++)
#pragma unroll
        for (s32 group = 0; group < GROUPS_OF_STEP; group++) {
#pragma unroll
          for (s32 i = 0; i < BLOCKS_N; i++)
            of[own][group][i].load(args.scales, args.scales.place(slab + own, group, block + i));
        }
    }
  }
};

// 64 bytes of the tokens' rows: sums += weight times tokens.
template <class Format, s32 HALF>
DEVICE void multiply_half(Sums<Format>& sums, typename Format::Left (&left)[BLOCKS_N], const u8* weight,
                          const u8* metadata, const u8* tokens, s32 chunk,
                          const typename Format::Scale (&scales)[GROUPS_OF_STEP][BLOCKS_N]) {
  const s32 lane = threadIdx.x % 32;
#pragma unroll
  for (s32 i = 0; i < BLOCKS_N; i++)
    Format::template prepare<HALF>(left[i], weight + i * Format::BYTES, metadata + i * META_BYTES, lane,
                                   scales[GROUPS_OF_STEP == 1 ? 0 : HALF][i]);
#pragma unroll
  for (s32 j = 0; j < BLOCKS_M; j++) {
    u32 right[4];
    ldmatrix_x4(right, tokens + swizzled<ROW_BYTES>(j * 8 + lane % 8, chunk + 4 * HALF + lane / 8));
#pragma unroll
    for (s32 step = 0; step < Format::STEPS; step++)
#pragma unroll
      for (s32 i = 0; i < BLOCKS_N; i++) {
        Format::template mma<HALF>(sums.partial[i][j], left[i], right, step);
        // Two groups of 8-bit codes in these 64 bytes.
        if constexpr (Format::PROMOTED && GROUPS_OF_STEP == 2) sums.promote(i, j, scales[step][i].of);
      }
  }
}

template <class Format>
DEVICE void multiply(Sums<Format>& sums, const Stage<Format>& stage, s32 slab, s32 warp_n, s32 warp_m,
                     const typename Format::Scale (&scales)[GROUPS_OF_STEP][BLOCKS_N]) {
  const s32 block = slab * (TILE_N / 16) + warp_n / 16;
  const u8* weight = stage.weight() + block * Format::BYTES;
  const u8* metadata = stage.metadata() + block * META_BYTES;
  const u8* tokens = stage.tokens() + warp_m * ROW_BYTES;
  typename Format::Left left[BLOCKS_N];
  const s32 chunk = slab * SLAB_BYTES / 16;
  multiply_half<Format, 0>(sums, left, weight, metadata, tokens, chunk, scales);
  if constexpr (IN_BYTES == 2) multiply_half<Format, 1>(sums, left, weight, metadata, tokens, chunk, scales);
}

// 8 tokens at a time, each warp in a place of its own; warps that share K read each other's.
template <class Format>
DEVICE void store_tile(const SwapArguments& args, const Sums<Format>& sums, float* staging, Corner corner, s32 place,
                       s32 part) {
  constexpr s32 PART = WARPS_N * WARPS_M * STAGED;
  const s32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  float* first = staging + place * STAGED;
#pragma unroll
  for (s32 j = 0; j < BLOCKS_M; j++) {
#pragma unroll
    for (s32 i = 0; i < BLOCKS_N; i++)
#pragma unroll
      for (s32 half = 0; half < 2; half++)
        stage_pair<WARP_N>(first + part * PART, 2 * t, 16 * i + g + 8 * half, sums.value(i, j, 2 * half),
                           sums.value(i, j, 2 * half + 1));
    if (WARPS_K == 1) {
      __syncwarp();
    } else {
      __syncthreads();
    }
    store_staged<WARP_N, 8, 32 * WARPS_K, WARPS_K, PART, Sums<Format>::INTEGERS>(
        first, args.epilogue, args.out, {corner.token + 8 * j, corner.channel}, args.m, args.n, part * 32 + lane);
    if (WARPS_K == 1) {
      __syncwarp();  // all have read before the next 8 tokens are written
    } else {
      __syncthreads();
    }
  }
}

template <class Format>
DEVICE void mma_swap_ab(const SwapArguments& args) {
  SHARED_MEMORY(shared);
  s32 token, channel;
  place_tile<TILE_M, TILE_N>(blockIdx.x, args.m, args.n, token, channel);
  const s32 warp = threadIdx.x / 32, part = warp / (WARPS_N * WARPS_M), place = warp % (WARPS_N * WARPS_M);
  const s32 warp_n = place / WARPS_M * WARP_N, warp_m = place % WARPS_M * WARP_M;
  const s32 steps = (args.slabs + SLABS - 1) / SLABS;
  const RowCopier<TILE_M, ROW_BYTES, THREADS> copy_tokens(args.a, args.a_stride, token, args.m, args.k);
  const WeightCopier<Format::BYTES> copy_weight = {args.weight, args.slabs, args.blocks, channel / 16};
  const WeightCopier<META_BYTES> copy_metadata = {args.metadata, args.slabs, args.blocks, channel / 16};
  auto copy_step = [&](s32 step) {
    const Stage<Format> stage = {shared + step % STAGES * Stage<Format>::BYTES};
    if (step < steps) {
      copy_tokens.copy(stage.tokens(), step);
      copy_weight.copy(stage.weight(), step);
      if constexpr (Format::SPARSE) copy_metadata.copy(stage.metadata(), step);
    }
    cp_async_commit();  // also an empty group, so that the count of groups is that of steps
  };

  Sums<Format> sums;
  Scales<Format> scales, next;
  const s32 block = (channel + warp_n) / 16;
  for (s32 step = 0; step < STAGES - 1; step++) copy_step(step);
  next.load(args, block, part * OWN_SLABS);
  for (s32 step = 0; step < steps; step++) {
    scales = next;
    next.load(args, block, (step + 1) * SLABS + part * OWN_SLABS);
    cp_async_wait<STAGES - 2>();
    // Everyone's copies of this step have landed, and everyone has read the stage that the next copies overwrite.
    __syncthreads();
    copy_step(step + STAGES - 1);
    const Stage<Format> stage = {shared + step % STAGES * Stage<Format>::BYTES};
#pragma unroll
    for (s32 own = 0; own < OWN_SLABS; own++) {
      const s32 within = part * OWN_SLABS + own, slab = step * SLABS + within;
      if (slab >= args.slabs) break;
      multiply(sums, stage, within, warp_n, warp_m, scales.of[own]);
      if constexpr (Format::PROMOTED && GROUPS_OF_STEP == 1) {
        // Warps that share K have parts of a group only.
        if (WARPS_K == 1 && (slab + 1) % args.promote_slabs != 0 && slab + 1 < args.slabs) continue;
#pragma unroll
        for (s32 i = 0; i < BLOCKS_N; i++)
#pragma unroll
          for (s32 j = 0; j < BLOCKS_M; j++) sums.promote(i, j, scales.of[own][0][i].of);
      }
    }
  }
  cp_async_wait<0>();
  __syncthreads();  // the staging lies where the stages were
  store_tile(args, sums, reinterpret_cast<float*>(shared), {token + warp_m, channel + warp_n}, place, part);
}
