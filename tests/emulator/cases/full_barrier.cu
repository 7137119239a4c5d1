// Takes a copy for landed that may not have. WHAT: 0 nobody waits, 1 a wait for the other parity, 2 the second copy
// waited for with the first one's parity, 3 a wait for a phase that never ends, 4 fewer bytes announced than come,
// 5 more bytes, 6 a wait by one thread only.
#include "hopper.cuh"

CASE(full_barrier) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  const u32 i = threadIdx.x;
  if (i == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, 2 * BOX + (CORRECT ? 0 : WHAT == 4 ? -BOX : WHAT == 5 ? 16 : 0));
    tma_load(memory, &args.in_map, full, 0, 0);
    tma_load(memory + BOX, &args.in_map, full, 0, 0);
  }
  __syncthreads();
  if (CORRECT || (WHAT != 0 && (WHAT != 6 || i == 0))) mbarrier_wait(full, !CORRECT && WHAT == 1);
  if (!CORRECT && WHAT == 3) mbarrier_wait(full, 1);
  args.out[i] = reinterpret_cast<const s32*>(memory + BOX)[i];
  __syncthreads();
  if (WHAT != 2) return;
  if (i == 0) {
    mbarrier_expect_bytes(full, BOX);
    tma_load(memory, &args.in_map, full, 0, 0);
  }
  mbarrier_wait(full, CORRECT ? 1 : 0);
  args.out[i] = reinterpret_cast<const s32*>(memory)[i + 32];
}
