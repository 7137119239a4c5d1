// Half of the lanes shuffle, the others wait for their warp.
#include "case.cuh"

CASE(two_operations) {
  const u32 i = threadIdx.x;
  s32 value = args.in[i];
  if (CORRECT || i % 32 < 16) value += __shfl_down_sync(0xffffffff, value, 4);
  else __syncwarp();
  args.out[i] = value;
}
