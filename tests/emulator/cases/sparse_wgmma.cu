// A wgmma whose left operand is sparse, with rows of 64 bytes. WHAT: 0 a nibble that names one value twice, 1 one out
// of order in a thread that is asked, where those that are not bring anything, 2 rows that begin in the middle of the
// pattern, 3 another distance of them, 4 rows that leave the swizzle on the left, 5 on the right, 6 sums of a sparse
// and of a dense product in the same registers, 7 beyond shared memory.
#include "hopper.cuh"
#include "wgmma.cuh"
#include "wgmma_sparse.cuh"

CASE(sparse_wgmma) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  const u32 i = threadIdx.x;
  const bool wrong = !CORRECT;
  if (i == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, 2 * BOX);
    tma_load(memory, &args.in_map, full, 0, 0);
    tma_load(memory + BOX, &args.in_map, full, 0, 0);
  }
  __syncthreads();
  mbarrier_wait(full, 0);
  u64 a = wgmma_descriptor_64(memory), b = wgmma_descriptor(memory + BOX);
  if (wrong && WHAT == 2) a += 64 / 16;
  if (wrong && WHAT == 3) a += 32ull << 32;
  if (wrong && WHAT == 4) a += 48 / 16;
  if (wrong && WHAT == 5) b += 96 / 16;
  if (wrong && WHAT == 7) a += (3 * BOX + 1024) / 16;
  u32 metadata = 0xedc98444;
  if (wrong && WHAT == 0 && i == 77) metadata = 0xedc9844f;
  if (WHAT == 1 && i % 4 >= 2) metadata = 0x12345678;
  if (wrong && WHAT == 1 && i == 100) metadata = 0x1dc98444;
  float halves[32] = {};
  s32 sums[32] = {};
  wgmma_fence();
  if (WHAT == 1) {
    wgmma_sp_f16<64>(halves, a, b, metadata, true);
  } else {
    wgmma_sp_s8<64>(sums, a, b, metadata, true);
    wgmma_sp_s8<64>(sums, a + 2, b + 4, metadata, true);
  }
  if (WHAT == 6 && wrong) wgmma_s8<64>(sums, b, b, true);
  wgmma_commit();
  wgmma_wait<0>();
  for (s32 r = 0; r < 32 && i < 64; r++) args.out[32 * i + r] = WHAT == 1 ? __float_as_int(halves[r]) : sums[r];
}
