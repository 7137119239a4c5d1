// out [M, N] = epilogue(a [M, K] b [N, K]^T) on 8-bit codes by wgmma: the matmul of Hopper.
//
// sm90_pipeline.cuh says who does what. The left operand is a, the right one b: CLUSTER = 2 are two tiles below each
// other, and each block loads half of the rows of b they share, for both.
//
// FP8 sums are promoted into FP32 after every stage, since the tensor core keeps about 14 bits of a sum; INT8 sums are
// exact, and the next stage begins before the last has ended.
//
// M, N and K are arbitrary but for rows of 16 bytes: boxes outside the matrices are zeros, and what is stored there is
// dropped. STAGED results leave through shared memory and the copy engine, which takes rows of whole 16 bytes and boxes
// 128 bytes wide; others are stored by threads.
//
// Compile-time: TILE_N, GROUPS (of mathematicians), GROUP_M (rows of each, 64 or 128), STAGES, CLUSTER, STAGED, ALIGNED
// (rows.cuh), OUT, ACTIVATE, PARTS, BLOCK_SCALES (epilogue.cuh).
#pragma once
#include "epilogue.cuh"
#include "sm90_pipeline.cuh"
#include "wgmma.cuh"

struct HopperArguments {
  TensorMap a, b;  // boxes of TILE_M and of TILE_N / CLUSTER rows, 128 bytes wide
  TensorMap out;   // where STAGED: boxes of 64 rows, 128 bytes wide
  void* result;    // elsewhere: [M, N] contiguous
  const float* b_block_scales;  // where BLOCK_SCALES: [ceil(N / 128), k_blocks]
  const float* a_block_scales;  // where of both: [M, k_blocks]
  s32 m, n, k;                  // k: bytes of a row
  s32 k_blocks;                 // ceil(K / 128)
  Epilogue epilogue;
};

constexpr s32 TILE_M = GROUPS * GROUP_M;
constexpr s32 A_BYTES = TILE_M * TILE_K, B_BYTES = TILE_N * TILE_K;
constexpr s32 BLOCKS_M = GROUP_M / 64;  // of wgmma, for each mathematician
constexpr s32 SUMS = TILE_N / 2;        // of a thread in each
constexpr s32 SPAN = 128;               // bytes of a row of the staging
constexpr s32 STAGED_COLUMNS = SPAN / bytes_of(OUT);
constexpr s32 STAGING_BYTES = 64 * SPAN;  // one box; each mathematician has two

static_assert(GROUP_M == 64 || GROUP_M == 128, "wgmma has 64 rows");
static_assert(CLUSTER == 1 || TILE_N / CLUSTER % 8 == 0, "each half of b begins where the swizzle does");
static_assert(!STAGED || (ALIGNED && TILE_N % STAGED_COLUMNS == 0), "boxes are whole");
static_assert(BLOCK_SCALES == NO_BLOCKS || SCALE_BLOCK % TILE_N == 0, "a tile has one scale of b for each block of K");

// What lies in shared memory, from its beginning: stages, staging, barriers.
struct Shared {
  u8* base;
  DEVICE u8* a(u32 stage) const { return base + stage * (A_BYTES + B_BYTES); }
  DEVICE u8* b(u32 stage) const { return a(stage) + A_BYTES; }
  DEVICE u8* staging(u32 group, u32 turn) const { return a(STAGES) + (2 * group + turn % 2) * STAGING_BYTES; }
  DEVICE Barriers barriers() const {
    return {reinterpret_cast<u64*>(a(STAGES) + (STAGED ? 2 * GROUPS * STAGING_BYTES : 0))};
  }
};

template <class Format>
struct Sums {
  static constexpr bool PROMOTED = Format::PROMOTED || BLOCK_SCALES != NO_BLOCKS;
  typename Format::Accumulator partial[BLOCKS_M][SUMS];
  float total[PROMOTED ? BLOCKS_M : 1][PROMOTED ? SUMS : 1];

  DEVICE float value(s32 block, s32 i) const {
    if constexpr (PROMOTED) {
      return total[block][i];
    } else {
      return static_cast<float>(partial[block][i]);
    }
  }

  // `row`: of the first sum of this thread; `block`: of K.
  DEVICE void promote(const HopperArguments& args, s32 row, s32 column, s32 block) {
    const float b_scale =
        BLOCK_SCALES ? args.b_block_scales[static_cast<s64>(column / SCALE_BLOCK) * args.k_blocks + block] : 0.0f;
#pragma unroll
    for (s32 i = 0; i < BLOCKS_M; i++)
#pragma unroll
      for (s32 half = 0; half < 2; half++) {
        float scale = b_scale;
        if (BLOCK_SCALES == BLOCKS_OF_BOTH) {
          const s32 m = min(row + 64 * i + 8 * half, args.m - 1);
          scale = args.a_block_scales[static_cast<s64>(m) * args.k_blocks + block] * b_scale;
        }
#pragma unroll
        for (s32 j = 0; j < SUMS; j += 4)
#pragma unroll
          for (s32 e = j + 2 * half; e < j + 2 * half + 2; e++) {
            const float sum = static_cast<float>(partial[i][e]);
            total[i][e] += BLOCK_SCALES ? sum * scale : sum;
          }
      }
  }
};

// Starts one stage: sums [GROUP_M, TILE_N] of this warpgroup, plus the sums before where `add`.
template <class Format>
DEVICE void multiply(Sums<Format>& sums, const Shared& shared, u32 stage, u32 group, bool add) {
  wgmma_fence();
  const u64 b = wgmma_descriptor(shared.b(stage));
#pragma unroll
  for (s32 i = 0; i < BLOCKS_M; i++) {
    const u64 a = wgmma_descriptor(shared.a(stage) + (group * GROUP_M + 64 * i) * TILE_K);
#pragma unroll
    for (s32 k = 0; k < TILE_K / 32; k++)
      Format::wgmma(sums.partial[i], a + 2 * k, b + 2 * k, add || k > 0);
  }
  wgmma_commit();
}

// All of K for one tile.
template <class Format>
DEVICE void accumulate(const HopperArguments& args, Sums<Format>& sums, const Shared& shared, Turn& turn, u32 group,
                       s32 row, s32 column) {
  const Barriers barriers = shared.barriers();
  if constexpr (Sums<Format>::PROMOTED) {
#pragma unroll
    for (s32 i = 0; i < BLOCKS_M * SUMS; i++) sums.total[i / SUMS][i % SUMS] = 0.0f;
    for (s32 k = 0; k < args.k; k += TILE_K, turn.advance()) {
      barriers.wait_full(turn);
      multiply(sums, shared, turn.stage, group, false);
      wgmma_wait<0>();
      barriers.release(turn.stage);
      sums.promote(args, row, column, k / TILE_K);
    }
  } else {
    u32 before = 0;
    for (s32 k = 0; k < args.k; k += TILE_K, turn.advance()) {
      barriers.wait_full(turn);
      multiply(sums, shared, turn.stage, group, k > 0);
      if (k > 0) {
        wgmma_wait<1>();
        barriers.release(before);
      }
      before = turn.stage;
    }
    wgmma_wait<0>();
    barriers.release(before);
  }
}

// Two columns of a row, finished; `i` is the first of the two sums.
template <class Format>
DEVICE void finish_pair(float (&x)[2], const HopperArguments& args, const Sums<Format>& sums, s32 block, s32 i,
                        const ResultRow& row, s32 column) {
  x[0] = sums.value(block, i), x[1] = sums.value(block, i + 1);
  if (column < args.n) finish(x, args.epilogue, row, column, args.n - column);
}

// STAGED_COLUMNS columns of 64 rows into a box of 128-byte rows, swizzled as the copy engine expects it. `first`: of
// blocks of 8 columns. `rows`: this thread's two.
template <class Format>
DEVICE void fill_box(u8* box, const HopperArguments& args, const Sums<Format>& sums, s32 block, s32 first,
                     const ResultRow (&rows)[2], s32 column) {
  const s32 thread = threadIdx.x % GROUP, lane = thread % 32, g = lane / 4, t = lane % 4;
  const s32 top = thread / 32 * 16;
#pragma unroll
  for (s32 j = 0; j < STAGED_COLUMNS / 8; j += 2) {
    u32 packed[4];  // rows g and g + 8 of a block of columns, then of the next
#pragma unroll
    for (s32 part = 0; part < 4; part++) {
      const s32 of = j + part / 2, half = part % 2;
      float x[2];
      finish_pair(x, args, sums, block, 4 * (first + of) + 2 * half, rows[half], column + 8 * of + 2 * t);
      const s32 row = top + g + 8 * half;
      if constexpr (OUT == F32) {
        *reinterpret_cast<float2*>(box + row * SPAN + ((2 * of + t / 2) ^ (row & 7)) * 16 + t % 2 * 8) =
            make_float2(x[0], x[1]);
      } else if constexpr (OUT == BF16 || OUT == F16) {
        packed[part] = pack_2<OUT>(x);
      } else {
        *reinterpret_cast<u16*>(box + row * SPAN + (of / 2 ^ (row & 7)) * 16 + of % 2 * 8 + 2 * t) =
            static_cast<u16>(pack_2<OUT>(x));
      }
    }
    if constexpr (OUT == BF16 || OUT == F16) {
      const s32 row = top + lane % 8 + lane / 8 % 2 * 8;
      stmatrix_x4(box + row * SPAN + ((j + lane / 16) ^ (row & 7)) * 16, packed);
    }
  }
}

// A tile through shared memory and the copy engine, which goes on while the next tile is computed.
template <class Format>
DEVICE void store_boxes(const HopperArguments& args, const Sums<Format>& sums, const Shared& shared, u32 group,
                        u32& stored, s32 block, const ResultRow (&rows)[2], s32 row, s32 column) {
  const bool leads = threadIdx.x % GROUP == 0;
#pragma unroll
  for (s32 first = 0; first < TILE_N / 8; first += STAGED_COLUMNS / 8, stored++) {
    u8* box = shared.staging(group, stored);
    if (leads) tma_store_wait_read<1>();  // the store before the last has left this box
    barrier_sync(1 + group, GROUP);
    fill_box(box, args, sums, block, first, rows, column + 8 * first);
    fence_async();
    barrier_sync(1 + group, GROUP);
    if (leads) {
      tma_store(&args.out, box, (column + 8 * first) * bytes_of(OUT), row);
      tma_store_commit();
    }
  }
}

// A tile straight from registers.
template <class Format>
DEVICE void store_pairs(const HopperArguments& args, const Sums<Format>& sums, s32 block, const ResultRow (&rows)[2],
                        s32 row, s32 column) {
  const s32 t = threadIdx.x % 4;
#pragma unroll
  for (s32 i = 0; i < SUMS; i += 2) {
    const s32 m = row + i / 2 % 2 * 8, n = column + i / 4 * 8 + 2 * t, count = args.n - n;
    if (m >= args.m || count <= 0) continue;
    float x[2];
    finish_pair(x, args, sums, block, i, rows[i / 2 % 2], n);
    store_row<OUT>(args.result, static_cast<s64>(m) * args.n, n, count, x);
  }
}

template <class Format>
struct Gemm {
  const HopperArguments& args;
  Shared shared;
  Tiles<TILE_M, TILE_N> tiles;

  DEVICE void produce() const {
    const Barriers barriers = shared.barriers();
    Tiles<TILE_M, TILE_N> own = tiles;
    Turn turn;
    s32 row, column;
    while (own.take(row, column)) {
      for (s32 k = 0; k < args.k; k += TILE_K, turn.advance()) {
        u64* full = barriers.full(turn.stage);
        barriers.wait_empty(turn);
        mbarrier_expect_bytes(full, A_BYTES + B_BYTES);
        tma_load(shared.a(turn.stage), &args.a, full, k, row);
        load_right<TILE_N>(shared.b(turn.stage), &args.b, full, k, column, own.rank);
      }
    }
  }

  DEVICE void compute(u32 group) const {
    const s32 thread = threadIdx.x % GROUP;
    Tiles<TILE_M, TILE_N> own_tiles = tiles;
    Sums<Format> sums;
    Turn turn;
    u32 stored = 0;
    s32 row, column;
    while (own_tiles.take(row, column)) {
      row += group * GROUP_M;
      const s32 own = row + thread / 32 * 16 + thread % 32 / 4;
      accumulate(args, sums, shared, turn, group, own, column);
#pragma unroll
      for (s32 block = 0; block < BLOCKS_M; block++) {
        ResultRow rows[2];
        for (s32 half = 0; half < 2; half++)  // rows that do not exist are dropped when they are stored
          rows[half] = result_row(args.epilogue, min(own + 64 * block + 8 * half, args.m - 1));
        if constexpr (STAGED) {
          store_boxes(args, sums, shared, group, stored, block, rows, row + 64 * block, column);
        } else {
          store_pairs(args, sums, block, rows, own + 64 * block, column);
        }
      }
    }
    if (thread == 0) tma_store_wait_read<0>();  // shared memory stays until the copy engine has read it
  }
};

template <class Format>
DEVICE void sm90_gemm(const HopperArguments& args) {
  SHARED_MEMORY(memory);
  const Shared shared = {memory};
  const u32 rank = CLUSTER == 1 ? 0 : cluster_rank();
  specialize(Gemm<Format>{args, shared, Tiles<TILE_M, TILE_N>(args.m, args.n, rank)}, shared.barriers());
}
