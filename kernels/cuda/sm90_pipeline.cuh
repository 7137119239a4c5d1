// How the matmuls of Hopper work together: roles of warpgroups, a ring of stages, persistent blocks.
//
// A warpgroup of producers, of which one thread works, has the copy engine (TMA) fill STAGES steps of 128 bytes of K; one
// or two warpgroups of mathematicians multiply them. `full` barriers say that a stage's bytes have landed, `empty` ones
// that all who read it are done; nobody waits for the whole block. Blocks are persistent: each goes on to another tile,
// and the producer is ahead of it. CLUSTER blocks compute tiles below each other, and each loads its share of the rows of
// the right operand, which they have in common, for all.
//
// Compile-time: GROUPS (of mathematicians), STAGES, CLUSTER.
#pragma once
#include "placement.cuh"

constexpr s32 TILE_K = 128;  // bytes of a row of the right operand in a step
constexpr s32 GROUP = 128;   // threads of a warpgroup
constexpr s32 THREADS = GROUP * (1 + GROUPS);

// Where in the ring of stages someone is: the stage, and the parity of the phase in which it is filled.
struct Turn {
  u32 stage = 0, parity = 0;
  DEVICE void advance() {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
};

// STAGES full ones, then STAGES empty ones.
struct Barriers {
  u64* first;
  DEVICE u64* full(u32 stage) const { return first + stage; }
  DEVICE u64* empty(u32 stage) const { return first + STAGES + stage; }

  DEVICE void init() const {
    for (u32 stage = 0; stage < STAGES; stage++) {
      mbarrier_init(full(stage), 1);
      mbarrier_init(empty(stage), 4 * GROUPS * CLUSTER);
    }
    mbarrier_init_fence();
  }

  DEVICE void wait_full(const Turn& turn) const { mbarrier_wait(full(turn.stage), turn.parity); }

  // On the first round the phase before the first counts as complete: stages begin empty.
  DEVICE void wait_empty(const Turn& turn) const {
    if (CLUSTER == 1) {
      mbarrier_wait(empty(turn.stage), turn.parity ^ 1);
    } else {
      mbarrier_wait_cluster(empty(turn.stage), turn.parity ^ 1);
    }
  }

  // One arrival for each warp that read the stage, in every block that fills it.
  DEVICE void release(u32 stage) const {
    const u32 lane = threadIdx.x % 32;
    if (CLUSTER == 1) {
      if (lane == 0) mbarrier_arrive(empty(stage));
    } else if (lane < CLUSTER) {
      mbarrier_arrive_remote(empty(stage), lane);
    }
  }
};

// The tiles of this block, one after the other, of LEFT x RIGHT rows of the operands: those of a cluster lie below each
// other.
template <s32 LEFT, s32 RIGHT>
struct Tiles {
  u32 next, step, count;
  s32 left, right;
  u32 rank;

  // `left`, `right`: rows of the operands.
  DEVICE Tiles(s32 left, s32 right, u32 rank)
      : next(blockIdx.x / CLUSTER), step(gridDim.x / CLUSTER), left(left), right(right), rank(rank) {
    count = count_tiles(left, LEFT * CLUSTER) * count_tiles(right, RIGHT);
  }

  DEVICE bool take(s32& row, s32& column) {
    if (next >= count) return false;
    place_tile<LEFT * CLUSTER, RIGHT>(next, left, right, row, column);
    row += rank * LEFT;
    next += step;
    return true;
  }
};

// RIGHT rows of the right operand, 128 bytes from k on.
template <s32 RIGHT>
DEVICE void load_right(u8* to, const TensorMap* map, u64* full, s32 k, s32 row, u32 rank) {
  constexpr s32 ROWS = RIGHT / CLUSTER;
  if (CLUSTER == 1) {
    tma_load(to, map, full, k, row);
  } else {
    const s32 part = rank * ROWS;
    tma_load_multicast(to + part * TILE_K, map, full, k, row + part, (1 << CLUSTER) - 1);
  }
}

// Runs a kernel's two roles: `produce()` by one thread, `compute(group)` by every mathematician.
template <class Kernel>
DEVICE void specialize(const Kernel& kernel, const Barriers& barriers) {
  if (threadIdx.x == 0) barriers.init();
  if (CLUSTER == 1) {
    __syncthreads();
  } else {
    cluster_sync();
  }
  const u32 group = threadIdx.x / GROUP;
  if (group == 0) {
    if (GROUPS > 1) registers_decrease<40>();
    if (threadIdx.x == 0) kernel.produce();
    __syncwarp();
  } else {
    if (GROUPS > 1) registers_increase<232>();
    kernel.compute(group - 1);
  }
  if (CLUSTER > 1) cluster_sync();  // a block stays while others copy into it or arrive at its barriers
}

// A cluster's size belongs to the compiled kernel.
#if CLUSTER > 1
#define CLUSTERED __cluster_dims__(CLUSTER, 1, 1)
#else
#define CLUSTERED
#endif
