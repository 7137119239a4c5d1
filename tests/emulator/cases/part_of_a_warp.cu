// A block that is no multiple of 32 threads: the last warp is never complete.
#include "case.cuh"

CASE(part_of_a_warp) {
  const u32 i = threadIdx.x;
  const u32 mask = CORRECT && i >= 32 ? (1u << (blockDim.x - 32)) - 1 : 0xffffffff;
  __syncwarp(mask);
  args.out[i] = args.in[i];
}
