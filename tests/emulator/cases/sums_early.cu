// Nothing but wrong numbers comes of these. WHAT: 0 sums read before the wait, 1 after a wait that leaves their group,
// 2 a descriptor 32 bytes further, 3 sums not added to.
#include "hopper.cuh"
#include "wgmma.cuh"

CASE(sums_early) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  const u32 i = threadIdx.x;
  if (i == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, BOX);
    tma_load(memory, &args.in_map, full, 0, 0);
  }
  __syncthreads();
  mbarrier_wait(full, 0);
  const u64 operand = wgmma_descriptor(memory);
  s32 sums[32];
  for (s32 r = 0; r < 32; r++) sums[r] = i + r;
  wgmma_fence();
  wgmma_s8<64>(sums, operand, operand + (!CORRECT && WHAT == 2 ? 2 : 0), CORRECT || WHAT != 3);
  wgmma_commit();
  if (CORRECT) wgmma_wait<0>();
  if (!CORRECT && WHAT == 1) wgmma_wait<1>();
  const s32 early = sums[5];
  wgmma_wait<0>();
  if (i < 64) {
    for (s32 r = 0; r < 32; r++) args.out[32 * i + r] = sums[r];
    args.out[32 * i] = early;
  }
}
