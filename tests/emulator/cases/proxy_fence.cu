// Ordinary writes that an engine reads or writes over, without a fence between. WHAT: 0 a store's box, 1 the same with
// a fence of the storing thread only, 2 with fences before the writes, 3 with one after the barrier, 4 a copy over what
// was written, 5 what cp.async brought, 6 what stmatrix wrote.
#include "hopper.cuh"

CASE(proxy_fence) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  const u32 i = threadIdx.x;
  if (i == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
  }
  if (!CORRECT && WHAT == 2) fence_async();
  if (WHAT == 5) {
    cp_async_16(memory + 16 * i, args.in + 4 * i, 16);
    cp_async_commit();
    cp_async_wait<0>();
  } else if (WHAT == 6) {
    const u32 fragment[4] = {i, i, i, i};
    stmatrix_x4(memory + 16 * i, fragment);
  } else {
    for (u32 each = i; each < 256; each += 64) reinterpret_cast<s32*>(memory)[each] = each;
  }
  if (CORRECT || (WHAT == 1 && i == 0)) fence_async();
  __syncthreads();
  if (!CORRECT && WHAT == 3) fence_async();
  if (i != 0) return;
  if (WHAT == 4) {
    mbarrier_expect_bytes(full, BOX);
    tma_load(memory, &args.in_map, full, 0, 0);
    mbarrier_wait(full, 0);
    return;
  }
  tma_store(&args.out_map, memory, 0, 0);
  tma_store_commit();
  tma_store_wait_read<0>();
}
