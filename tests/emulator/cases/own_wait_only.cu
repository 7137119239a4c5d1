// A wait is for one's own copies: others' need a barrier too.
#include "case.cuh"

CASE(own_wait_only) {
  SHARED_MEMORY(memory);
  const u32 i = threadIdx.x;
  cp_async_16(memory + 16 * i, args.in + 4 * i, 16);
  cp_async_commit();
  if (!CORRECT) __syncthreads();
  cp_async_wait<0>();
  if (CORRECT) __syncthreads();
  args.out[i] = reinterpret_cast<const s32*>(memory)[4 * (blockDim.x - 1 - i)];
}
