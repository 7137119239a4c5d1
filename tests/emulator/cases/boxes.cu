// Boxes where none can be. WHAT: 0 a copy to the middle of the swizzle's pattern, 1 a store from there, 2 a copy beyond
// shared memory, 3 a map that is none, 4 a map in the wrong place, 5 two blocks that store the same box, 6 a store into
// read-only memory, 7 a store of what nobody wrote, 8 a copy of what a thread of this launch writes.
#include "hopper.cuh"

CASE(boxes) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  const u32 i = threadIdx.x;
  const bool wrong = !CORRECT;
  struct alignas(64) {
    u64 first;
    TensorMap map;
  } none = {};
  const TensorMap* in_map = &args.in_map;
  if (wrong && WHAT == 3) in_map = &none.map;
  if (wrong && WHAT == 4) in_map = reinterpret_cast<const TensorMap*>(&none.first + 1);
  if (WHAT == 8) in_map = &args.out_map;
  if (i == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, BOX);
    tma_load(memory + (!wrong ? 0 : WHAT == 0 ? 512 : WHAT == 2 ? 3 * BOX : 0), in_map, full, 0, 0);
    mbarrier_wait(full, 0);
  }
  if (WHAT == 8 && wrong && i == 1) args.out[3] = 5;
  if (WHAT != 7 || CORRECT) {
    for (u32 each = i; each < 512; each += 64) reinterpret_cast<s32*>(memory + BOX)[each] = each;
  }
  fence_async();
  __syncthreads();
  if (i != 0 || WHAT == 8 || (blockIdx.x == 1 && CORRECT)) return;
  tma_store(wrong && WHAT == 6 ? &args.in_map : &args.out_map, memory + BOX + (wrong && WHAT == 1 ? 128 : 0), 0, 0);
  tma_store_commit();
  tma_store_wait_read<0>();
}
