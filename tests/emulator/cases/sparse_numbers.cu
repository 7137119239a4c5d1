// Nothing but wrong numbers comes of these. WHAT: 0 metadata of the neighbour, 1 kept values 32 bytes further, 2 what
// they are multiplied with 64 bytes further, 3 metadata of the other instruction.
#include "hopper.cuh"
#include "wgmma_sparse.cuh"

CASE(sparse_numbers) {
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
  const u64 a = wgmma_descriptor_64(memory) + (wrong && WHAT == 1 ? 2 : 0);
  const u64 b = wgmma_descriptor(memory) + (wrong && WHAT == 2 ? 4 : 0);
  const u32 words[2] = {0xedc98444, 0x4894cdee};
  const u32 row = wrong && WHAT == 0 ? i ^ 1 : i;
  s32 sums[32] = {};
  wgmma_fence();
  wgmma_sp_s8<64>(sums, a, b, words[(row + (wrong && WHAT == 3)) % 2], true);
  wgmma_commit();
  wgmma_wait<0>();
  for (s32 r = 0; r < 32 && i < 64; r++) args.out[32 * i + r] = sums[r];
}
