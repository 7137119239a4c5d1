// A wgmma reads registers of its threads until it is waited for. WHAT: 0 they are assigned to before the wait, 1 after
// one that leaves its group, 2 in one thread, by the next step, 3 they end with the body of a loop.
#include "hopper.cuh"
#include "wgmma_registers.cuh"

CASE(lent_registers) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  const u32 i = threadIdx.x;
  const bool wrong = !CORRECT;
  if (i == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, BOX);
    tma_load(memory, &args.in_map, full, 0, 0);
  }
  __syncthreads();
  mbarrier_wait(full, 0);
  const u64 b = wgmma_descriptor_64(memory);
  s32 sums[32] = {};
  u32 fragments[2][4];
  for (u32 r = 0; r < 8; r++) fragments[r / 4][r % 4] = i * 0x01020304 + r;
  wgmma_fence();
  if (WHAT == 3 && wrong) {
    for (u32 step = 0; step < 2; step++) {
      u32 fragment[4];
      for (u32 r = 0; r < 4; r++) fragment[r] = fragments[step][r];
      wgmma_rs_s8<64>(sums, fragment, b + 2 * step, true);
    }
  } else {
    for (u32 step = 0; step < 2; step++) {
      u32(&fragment)[4] = fragments[WHAT == 2 && wrong && i == 70 ? 0 : step];
      if (WHAT == 2 && wrong && i == 70 && step == 1) fragment[3] = fragments[1][3];
      wgmma_rs_s8<64>(sums, fragment, b + 2 * step, true);
      wgmma_commit();
    }
  }
  wgmma_commit();
  if (WHAT == 0 && wrong) fragments[1][2] = 3;
  if (WHAT == 1 && wrong) {
    wgmma_wait<2>();
    fragments[1][2] = 3;
  }
  wgmma_wait<0>();
  fragments[0][0] = fragments[1][2] = 5;
  for (s32 r = 0; r < 32 && i < 64; r++) args.out[32 * i + r] = sums[r] + fragments[0][0];
}
