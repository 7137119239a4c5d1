// cluster_rank, cluster_sync, mbarrier_arrive_remote, mbarrier_wait_cluster, tma_load_multicast: each of two blocks
// loads half of a tile into both, twice. What each block received, and its rank.
#include "ptx.cuh"

struct ProbeArguments {
  TensorMap source;  // boxes of 8 rows of 128 bytes
  const u8* matrix;  // [clusters][2 rounds][2 halves][8][128]
  u8* tiles;         // [blocks][2 rounds][2048]
  s32* ranks;        // [blocks]
};

extern "C" __global__ void __cluster_dims__(2, 1, 1) probe_cluster(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  u64* const full = reinterpret_cast<u64*>(shared + 2048);
  u64* const empty = full + 1;
  const u32 rank = cluster_rank();
  if (threadIdx.x == 0) {
    args.ranks[blockIdx.x] = rank;
    mbarrier_init(full, 1);
    mbarrier_init(empty, 2);
    mbarrier_init_fence();
  }
  cluster_sync();
  for (s32 round = 0; round < 2; round++) {
    if (threadIdx.x == 0) {
      mbarrier_wait_cluster(empty, round ^ 1);
      mbarrier_expect_bytes(full, 2048);
      tma_load_multicast(shared + 1024 * rank, &args.source, full, 0, 8 * (blockIdx.x / 2 * 4 + 2 * round + rank), 3);
    }
    mbarrier_wait(full, round);
    for (s32 i = threadIdx.x; i < 2048; i += 32) args.tiles[2048 * (2 * blockIdx.x + round) + i] = shared[i];
    cluster_sync();  // an arrival from elsewhere tells nothing of what threads have read
    if (threadIdx.x < 2) mbarrier_arrive_remote(empty, threadIdx.x);
    __syncwarp();
  }
  cluster_sync();
}
