// The first block of a cluster copies into both. WHAT: 0 the second one does not wait, and may have left, 1 its slot is
// still read, 2 it expects nothing, 3 its barrier may not exist, 4 to a block that is not there, 5 to none.
#include "hopper.cuh"

CASE(multicast) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  u64* const empty = full + 1;
  const u32 i = threadIdx.x, rank = cluster_rank();
  const bool wrong = !CORRECT;
  if (i == 0) {
    mbarrier_init(full, 1);
    mbarrier_init(empty, 2);
    mbarrier_init_fence();
  }
  if (CORRECT || WHAT != 3) cluster_sync();
  for (s32 round = 0; round < 2; round++) {
    if (i == 0 && (CORRECT || WHAT != 2 || rank == 0)) mbarrier_expect_bytes(full, BOX);
    if (i == 0 && rank == 0) {
      if (CORRECT || WHAT != 1) mbarrier_wait_cluster(empty, round ^ 1);
      tma_load_multicast(memory, &args.in_map, full, 0, 0, !wrong ? 3 : WHAT == 4 ? 7 : WHAT == 5 ? 0 : 3);
    }
    if (wrong && WHAT == 0 && rank == 1) return;
    mbarrier_wait(full, round);
    args.out[64 * rank + i] = reinterpret_cast<const s32*>(memory)[i];
    __syncthreads();
    if (i == 0) mbarrier_arrive_remote(empty, 0);
  }
  cluster_sync();
}
