// Waits for the older of two groups, reads the younger.
#include "case.cuh"

CASE(wait_leaves_too_many) {
  SHARED_MEMORY(memory);
  const u32 i = threadIdx.x;
  for (s32 step = 0; step < 2; step++) {
    cp_async_16(memory + (step * blockDim.x + i) * 16, args.in + 4 * i, 16);
    cp_async_commit();
  }
  cp_async_wait<1>();
  __syncthreads();
  const s32 step = CORRECT ? 0 : 1;
  args.out[i] = reinterpret_cast<const s32*>(memory + step * blockDim.x * 16)[i];
}
