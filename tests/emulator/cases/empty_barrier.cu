// A ring of two slots between a thread that copies and a warp that reads. WHAT: 0 the copying thread does not wait,
// 1 it waits for the phase before, 2 the readers let go too early, 3 only some of them are waited for, 4 one of them
// lets go twice.
#include "hopper.cuh"

CASE(empty_barrier) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  u64* const empty = full + 2;
  const u32 lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (s32 slot = 0; slot < 2; slot++) {
      mbarrier_init(full + slot, 1);
      mbarrier_init(empty + slot, CORRECT || WHAT != 3 ? 32 : 31);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  for (s32 step = 0; step < 8; step++) {
    const s32 slot = step % 2, parity = step / 2 % 2;
    if (threadIdx.x == 32) {
      if (CORRECT || WHAT > 1) mbarrier_wait(empty + slot, parity ^ 1);
      if (!CORRECT && WHAT == 1) mbarrier_wait(empty + slot, parity);
      mbarrier_expect_bytes(full + slot, BOX);
      tma_load(memory + BOX * slot, &args.in_map, full + slot, 0, 0);
    }
    if (threadIdx.x >= 32) continue;
    mbarrier_wait(full + slot, parity);
    if (!CORRECT && WHAT == 2) mbarrier_arrive(empty + slot);
    args.out[lane] = reinterpret_cast<const s32*>(memory + BOX * slot)[lane];
    if (CORRECT || WHAT == 1 || WHAT == 3) mbarrier_arrive(empty + slot);
    if (!CORRECT && WHAT == 4) mbarrier_arrive(empty + slot);
    if (!CORRECT && WHAT == 4 && lane == 3) mbarrier_arrive(empty + slot);
  }
}
