// out [M, N] = epilogue(a [M, K] b [N, K]^T) on 8-bit codes by mma.sync: the matmul of Ampere and Ada.
//
// A block computes TILE_M x TILE_N of the result. It walks along K in steps of TILE_K bytes; STAGES - 1 steps are on
// their way from global to shared memory (cp.async) while one is multiplied. Shared rows are swizzled in units of 16
// bytes, so that neither the copies nor ldmatrix meet a bank twice. Each warp owns WARP_M x WARP_N of the tile.
//
// M and N are arbitrary: rows that do not exist are copied as zeros and never stored. K is a multiple of 16, which the
// host sees to by padding with zeros, so every copy is 16 bytes.
//
// Compile-time: TILE_M, TILE_N, TILE_K, WARP_M, WARP_N, STAGES, ALIGNED (rows.cuh), OUT, ACTIVATE,
// PARTS, BLOCK_SCALES (epilogue.cuh).
#pragma once
#include "epilogue.cuh"
#include "placement.cuh"
#include "row_copies.cuh"

struct MmaArguments {
  const u8* a;  // row m at a + m * a_stride, bytes; as all rows a multiple of 16
  const u8* b;
  void* out;  // [M, N] contiguous
  s64 a_stride, b_stride;
  const float* b_block_scales;  // where BLOCK_SCALES: [ceil(N / 128), k_blocks]
  const float* a_block_scales;  // where of both: [M, k_blocks]
  s32 m, n, k;
  s32 k_blocks;  // ceil(K / 128)
  Epilogue epilogue;
};

constexpr s32 WARPS_M = TILE_M / WARP_M, WARPS_N = TILE_N / WARP_N;
constexpr s32 THREADS = 32 * WARPS_M * WARPS_N;
constexpr s32 STAGE_BYTES = (TILE_M + TILE_N) * TILE_K;
constexpr s32 FRAGMENTS_M = WARP_M / 16, FRAGMENTS_N = WARP_N / 8;

static_assert(WARP_M % 16 == 0 && (WARP_N == 32 || WARP_N == 64), "of mma fragments, and of the epilogue's swizzle");
static_assert(TILE_M % WARP_M == 0 && TILE_N % WARP_N == 0 && SCALE_BLOCK % TILE_K == 0 && STAGES >= 2, "");

// What a warp accumulates: Format::Accumulator by the instruction, promoted into floats every SCALE_BLOCK of K where
// the format or the scales ask for it.
template <class Format>
struct Sums {
  static constexpr bool PROMOTED = Format::PROMOTED || BLOCK_SCALES != NO_BLOCKS;
  // Blocks on a multiprocessor for which registers are to suffice: 512 threads of 128 where sums leave room, 384 of 168
  // in small blocks, else one.
  // Said to the compiler, because left alone some versions spill sums for an occupancy that nothing needs.
  static constexpr bool ROOM = WARP_M * WARP_N / 32 * (PROMOTED ? 2 : 1) <= 64;
  static constexpr s32 RESIDENT = ROOM ? (THREADS > 128 ? 512 : 384) / THREADS : 1;
  typename Format::Accumulator partial[FRAGMENTS_M][FRAGMENTS_N][4];
  float total[PROMOTED ? FRAGMENTS_M : 1][PROMOTED ? FRAGMENTS_N : 1][4];

  DEVICE Sums() {
#pragma unroll
    for (s32 i = 0; i < FRAGMENTS_M; i++)
#pragma unroll
      for (s32 j = 0; j < FRAGMENTS_N; j++)
#pragma unroll
        for (s32 e = 0; e < 4; e++) {
          partial[i][j][e] = 0;
          if (PROMOTED) total[i][j][e] = 0.0f;
        }
  }

  // `row` and `column`: the warp's first, `block`: of K.
  DEVICE void promote(const MmaArguments& args, s32 row, s32 column, s32 block) {
    float b_scale = 0.0f;  // columns beyond N: nobody stores them
    if (BLOCK_SCALES && column < args.n)
      b_scale = args.b_block_scales[static_cast<s64>(column / SCALE_BLOCK) * args.k_blocks + block];
#pragma unroll
    for (s32 i = 0; i < FRAGMENTS_M; i++)
#pragma unroll
      for (s32 half = 0; half < 2; half++) {
        float scale = b_scale;
        if (BLOCK_SCALES == BLOCKS_OF_BOTH) {
          const s32 m = min(row + i * 16 + half * 8 + static_cast<s32>(threadIdx.x % 32 / 4), args.m - 1);
          scale = args.a_block_scales[static_cast<s64>(m) * args.k_blocks + block] * b_scale;
        }
#pragma unroll
        for (s32 j = 0; j < FRAGMENTS_N; j++)
#pragma unroll
          for (s32 e = 2 * half; e < 2 * half + 2; e++) {
            const float sum = static_cast<float>(partial[i][j][e]);
            total[i][j][e] += BLOCK_SCALES ? sum * scale : sum;
            partial[i][j][e] = 0;
          }
      }
  }

  DEVICE float value(s32 i, s32 j, s32 e) const {
    if constexpr (PROMOTED) {
      return total[i][j][e];
    } else {
      return static_cast<float>(partial[i][j][e]);
    }
  }
};

// One stage: WARP_M x WARP_N += a's rows times b's rows, TILE_K deep.
template <class Format>
DEVICE void multiply(Sums<Format>& sums, const u8* a, const u8* b, s32 warp_row, s32 warp_column) {
  const s32 lane = threadIdx.x % 32;
#pragma unroll
  for (s32 k = 0; k < TILE_K / 32; k++) {
    u32 a_part[FRAGMENTS_M][4], b_part[FRAGMENTS_N / 2][4];
#pragma unroll
    for (s32 i = 0; i < FRAGMENTS_M; i++)
      ldmatrix_x4(a_part[i], a + swizzled<TILE_K>(warp_row + i * 16 + lane % 16, 2 * k + lane / 16));
#pragma unroll
    for (s32 j = 0; j < FRAGMENTS_N / 2; j++)  // two blocks of 8 columns a load
      ldmatrix_x4(b_part[j],
                  b + swizzled<TILE_K>(warp_column + j * 16 + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
#pragma unroll
    for (s32 i = 0; i < FRAGMENTS_M; i++)
#pragma unroll
      for (s32 j = 0; j < FRAGMENTS_N; j++)
        Format::mma(sums.partial[i][j], a_part[i], b_part[j / 2][j % 2 * 2], b_part[j / 2][j % 2 * 2 + 1]);
  }
}

// Byte of 4 floats `chunk` of a row of the epilogue's staging: fragments are written 8 bytes, rows read 16 bytes a lane.
DEVICE s32 staged(s32 row, s32 chunk) {
  return row * WARP_N * 4 + (chunk ^ (row & 3) << 1 ^ ((row ^ chunk >> 3) & 1)) * 16;
}

// Fragments hold two columns of a row; global memory wants whole rows. So 16 rows at a time pass through shared memory,
// each warp in a place of its own.
template <class Format>
DEVICE void store_tile(const MmaArguments& args, const Sums<Format>& sums, u8* staging, s32 row, s32 column) {
  constexpr s32 LANES = WARP_N / 8, ROWS = 32 / LANES;  // lanes on a row of the output, rows at once
  const s32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (s32 i = 0; i < FRAGMENTS_M; i++) {
#pragma unroll
    for (s32 j = 0; j < FRAGMENTS_N; j++)
#pragma unroll
      for (s32 half = 0; half < 2; half++)
        *reinterpret_cast<float2*>(staging + staged(g + 8 * half, 2 * j + t / 2) + t % 2 * 8) =
            make_float2(sums.value(i, j, 2 * half), sums.value(i, j, 2 * half + 1));
    __syncwarp();
#pragma unroll 1
    for (s32 pass = 0; pass < 16 / ROWS; pass++) {
      const s32 own = pass * ROWS + lane / LANES, chunk = lane % LANES * 2;
      const s32 m = row + i * 16 + own, n = column + chunk * 4, count = args.n - n;
      if (m < args.m && count > 0) {
        const float4 first = *reinterpret_cast<const float4*>(staging + staged(own, chunk));
        const float4 second = *reinterpret_cast<const float4*>(staging + staged(own, chunk + 1));
        float x[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
        finish(x, args.epilogue, result_row(args.epilogue, m), n, count);
        store_row<OUT>(args.out, static_cast<s64>(m) * args.n, n, count, x);
      }
    }
    __syncwarp();  // all have read before the next 16 rows are written
  }
}

template <class Format>
DEVICE void mma_gemm(const MmaArguments& args) {
  SHARED_MEMORY(shared);
  s32 tile_row, tile_column;
  place_tile<TILE_M, TILE_N>(blockIdx.x, args.m, args.n, tile_row, tile_column);
  const s32 warp = threadIdx.x / 32;
  const s32 warp_row = warp / WARPS_N * WARP_M, warp_column = warp % WARPS_N * WARP_N;
  const s32 steps = (args.k + TILE_K - 1) / TILE_K;
  const RowCopier<TILE_M, TILE_K, THREADS> copy_a(args.a, args.a_stride, tile_row, args.m, args.k);
  const RowCopier<TILE_N, TILE_K, THREADS> copy_b(args.b, args.b_stride, tile_column, args.n, args.k);
  auto copy_step = [&](s32 step) {
    u8* stage = shared + step % STAGES * STAGE_BYTES;
    if (step < steps) {
      copy_a.copy(stage, step);
      copy_b.copy(stage + TILE_M * TILE_K, step);
    }
    cp_async_commit();  // also an empty group, so that the count of groups is that of steps
  };

  Sums<Format> sums;
  for (s32 step = 0; step < STAGES - 1; step++) copy_step(step);
  for (s32 step = 0; step < steps; step++) {
    cp_async_wait<STAGES - 2>();
    // Everyone's copies of this step have landed, and everyone has read the stage that the next copies overwrite.
    __syncthreads();
    copy_step(step + STAGES - 1);
    const u8* stage = shared + step % STAGES * STAGE_BYTES;
    multiply(sums, stage, stage + TILE_M * TILE_K, warp_row, warp_column);
    if (Sums<Format>::PROMOTED && ((step + 1) * TILE_K % SCALE_BLOCK == 0 || step + 1 == steps))
      sums.promote(args, tile_row + warp_row, tile_column + warp_column, step * TILE_K / SCALE_BLOCK);
  }
  cp_async_wait<0>();
  __syncthreads();  // the staging lies where the stages were
  store_tile(args, sums, shared + warp * (16 * WARP_N * 4), tile_row + warp_row, tile_column + warp_column);
}
