// What is stored changes too early, or may. WHAT: 0 written again without a wait, 1 a wait that leaves one, 2 a copy
// over it, 3 a wait by another thread, 4 the end without a wait, 5 with a wait but without a commit, 6 written before a
// barrier after the wait.
#include "hopper.cuh"

CASE(staging) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  s32* const words = reinterpret_cast<s32*>(memory);
  const u32 i = threadIdx.x;
  if (i == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
  }
  for (u32 each = i; each < 256; each += 64) words[each] = each;
  fence_async();
  __syncthreads();
  if (i == 0) {
    tma_store(&args.out_map, memory, 0, 0);
    if (CORRECT || WHAT != 5) tma_store_commit();
    if (!CORRECT && WHAT == 1) tma_store_wait_read<1>();
    if (CORRECT || WHAT > 4) tma_store_wait_read<0>();
    if (WHAT == 2) {
      mbarrier_expect_bytes(full, BOX);
      tma_load(memory, &args.in_map, full, 0, 0);
      mbarrier_wait(full, 0);
    }
  }
  if (i == 1 && !CORRECT && WHAT == 3) tma_store_wait_read<0>();
  if (CORRECT || WHAT != 6) __syncthreads();
  if (WHAT != 4 && WHAT != 5) words[i] = 7;
}
