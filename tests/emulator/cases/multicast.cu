// The first block of a cluster copies into both. WHAT: 0 the second one does not wait, and may have left, 1 its slot is
// still read, 2 it expects nothing, 3 its barrier may not exist, 4 to a block that is not there, 5 to none, 6 a wait as
// if nobody had arrived from elsewhere, 7 the second block's threads read the slot, of which its arrivals tell nothing.
#include "hopper.cuh"
#include "wgmma.cuh"

CASE(multicast) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  u64* const empty = full + 1;
  const u32 i = threadIdx.x, rank = cluster_rank();
  const bool wrong = !CORRECT;
  if (i == 0) {
    mbarrier_init(full, 1);
    mbarrier_init(empty, 8);
    mbarrier_init_fence();
  }
  if (CORRECT || WHAT != 3) cluster_sync();
  s32 sums[32] = {};
  for (s32 round = 0; round < 2; round++) {
    if (i == 0 && (CORRECT || WHAT != 2 || rank == 0)) mbarrier_expect_bytes(full, BOX);
    if (i == 0 && rank == 0) {
      if (CORRECT || (WHAT != 1 && WHAT != 6)) mbarrier_wait_cluster(empty, round ^ 1);
      if (wrong && WHAT == 6) mbarrier_wait(empty, round ^ 1);
      tma_load_multicast(memory, &args.in_map, full, 0, 0, !wrong ? 3 : WHAT == 4 ? 7 : WHAT == 5 ? 0 : 3);
    }
    if (wrong && WHAT == 0 && rank == 1) return;
    mbarrier_wait(full, round);
    wgmma_fence();
    wgmma_s8<64>(sums, wgmma_descriptor(memory), wgmma_descriptor(memory), true);
    wgmma_commit();
    wgmma_wait<0>();
    if (WHAT == 7 && wrong) sums[0] += memory[i];
    __syncwarp();
    if (i % 32 == 0) mbarrier_arrive_remote(empty, 0);
  }
  if (i < 32) args.out[32 * rank + i] = sums[0];
  cluster_sync();
}
