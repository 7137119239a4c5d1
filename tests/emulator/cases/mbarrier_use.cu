// What may not be done with an mbarrier. WHAT: 0 used and never initialised, 1 used by others without a barrier after
// its initialisation, 2 initialised twice, 3 read, 4 written, 5 a parity of 2, 6 for no arrivals, 7 one arrival too
// many, 8 data copied onto it, 9 a copy before the fence of its initialisation, 10 a fence of another thread, 11 no
// multiple of 8, 12 not in shared memory.
#include "hopper.cuh"

CASE(mbarrier_use) {
  SHARED_MEMORY(memory);
  u64* const barrier = WHAT == 8 ? reinterpret_cast<u64*>(memory + 2 * BOX) : BARRIERS(memory);
  const u32 i = threadIdx.x;
  const bool wrong = !CORRECT;
  if (i == 0 && (CORRECT || WHAT != 0)) mbarrier_init(barrier, wrong && WHAT == 6 ? 0 : 64);
  if (i == 0 && wrong && WHAT == 2) mbarrier_init(barrier, 64);
  if (i == 0 && WHAT >= 7) mbarrier_init(barrier + 1, 1);
  if (i == (wrong && WHAT == 10) && (CORRECT || WHAT != 9)) mbarrier_init_fence();
  if (CORRECT || WHAT != 1) __syncthreads();
  if (i == 5 && wrong && WHAT == 3) args.out[1] = *reinterpret_cast<const s32*>(barrier);
  if (i == 5 && wrong && WHAT == 4) *barrier = 0;
  if (i == 0 && WHAT >= 7) {
    u8* const target = wrong && WHAT == 8 ? memory + 2 * BOX : memory;
    mbarrier_expect_bytes(barrier + 1, BOX);
    if (wrong && WHAT == 7) mbarrier_arrive(barrier + 1);
    tma_load(target, &args.in_map, barrier + 1, 0, 0);
  }
  if (i == 0 && wrong && WHAT == 11) mbarrier_arrive(reinterpret_cast<u64*>(memory + 3 * BOX + 4));
  if (i == 0 && wrong && WHAT == 12) mbarrier_arrive(reinterpret_cast<u64*>(args.out));
  mbarrier_arrive(barrier);
  mbarrier_wait(barrier, wrong && WHAT == 5 ? 2 : 0);
  if (WHAT >= 7) mbarrier_wait(barrier + 1, 0);
  args.out[i] = 1;
}
