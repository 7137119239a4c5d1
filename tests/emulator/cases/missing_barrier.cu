// Reads what another thread writes.
#include "case.cuh"

CASE(missing_barrier) {
  SHARED_MEMORY(memory);
  s32* shared = reinterpret_cast<s32*>(memory);
  const u32 i = threadIdx.x;
  shared[i] = 0;
  __syncthreads();
  shared[i] = args.in[i];
  if (CORRECT) __syncthreads();
  args.out[i] = shared[blockDim.x - 1 - i];
}
