// Threads of one block wait in different barriers.
#include "case.cuh"

CASE(two_barriers) {
  const u32 i = threadIdx.x;
  if (CORRECT) {
    __syncthreads();
  } else if (i < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  args.out[i] = args.in[i];
}
