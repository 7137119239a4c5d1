// __syncwarp orders the lanes of one warp, not those of two.
#include "case.cuh"

CASE(warp_before_block) {
  SHARED_MEMORY(memory);
  s32* shared = reinterpret_cast<s32*>(memory);
  const u32 i = threadIdx.x;
  shared[i] = 0;
  __syncthreads();
  shared[i] = args.in[i];
  if (CORRECT)
    __syncthreads();
  else
    __syncwarp();
  args.out[i] = shared[i ^ 32];
}
