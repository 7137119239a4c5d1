// Overwrites what another thread may still have to read.
#include "case.cuh"

CASE(reused_buffer) {
  SHARED_MEMORY(memory);
  s32* shared = reinterpret_cast<s32*>(memory);
  const u32 i = threadIdx.x;
  for (s32 step = 0; step < 3; step++) {
    shared[i] = args.in[i] + step;
    __syncthreads();
    args.out[i] = shared[blockDim.x - 1 - i];
    if (CORRECT) __syncthreads();
  }
}
