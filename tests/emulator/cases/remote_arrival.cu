// The second block of a cluster lets the first one go on. WHAT: 0 it never does, 1 it may have left already, 2 it does
// so before the barrier exists, 3 the first block reads what the second one wrote before, 4 it does so too often,
// 5 there is no such block, 6 the first block may have left before.
#include "hopper.cuh"

CASE(remote_arrival) {
  SHARED_MEMORY(memory);
  u64* const barrier = BARRIERS(memory);
  const u32 i = threadIdx.x, rank = cluster_rank();
  const bool wrong = !CORRECT;
  if (i == 0) {
    mbarrier_init(barrier, 64);
    mbarrier_init_fence();
  }
  if (CORRECT || WHAT != 2) cluster_sync();
  if (rank == 1) {
    args.out[64 + i] = i;
    if (CORRECT || WHAT != 0) mbarrier_arrive_remote(barrier, wrong && WHAT == 5 ? 2 : 0);
    if (wrong && WHAT == 4 && i == 9) mbarrier_arrive_remote(barrier, 0);
  } else if (CORRECT || WHAT != 6) {
    mbarrier_wait_cluster(barrier, 0);
  }
  if (WHAT == 3 && CORRECT) cluster_sync();
  if (WHAT == 3 && rank == 0) args.out[i] = args.out[64 + i];
  if (wrong && WHAT == 1 && rank == 0) mbarrier_arrive_remote(barrier, 1);
}
