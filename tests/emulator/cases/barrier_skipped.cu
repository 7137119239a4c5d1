// Some threads leave before a barrier.
#include "case.cuh"

CASE(barrier_skipped) {
  const u32 i = threadIdx.x;
  if (!CORRECT && i >= 32) return;
  __syncthreads();
  if (i >= 32) return;
  args.out[i] = args.in[i];
}
