// Names other lanes, not itself.
#include "case.cuh"

CASE(not_in_its_mask) {
  __syncwarp(CORRECT ? 0xffffffff : 0x0000ffff);
  args.out[threadIdx.x] = args.in[threadIdx.x];
}
