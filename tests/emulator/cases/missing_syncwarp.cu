// The lanes of a warp pass values through memory: no shuffle and no instruction of the warp orders that.
#include "case.cuh"

CASE(missing_syncwarp) {
  SHARED_MEMORY(memory);
  s32* shared = reinterpret_cast<s32*>(memory);
  const u32 i = threadIdx.x;
  shared[i] = 0;
  __syncwarp();
  shared[i] = args.in[i];
  if (CORRECT)
    __syncwarp();
  else
    __shfl_xor_sync(0xffffffff, 0, 1);
  args.out[i] = shared[i ^ 31];
}
