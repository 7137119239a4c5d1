// Blocks of a grid run at the same time. WHAT: 0 both write an element, 1 one reads what the other writes.
#include "case.cuh"

CASE(two_blocks) {
  const u32 i = threadIdx.x, own = blockIdx.x * blockDim.x + i;
  if (CORRECT)
    args.out[own] = args.in[i];
  else if (WHAT == 0)
    args.out[i] = args.in[i];
  else if (blockIdx.x == 0)
    args.out[i] = args.in[i];
  else
    args.out[own] = args.out[i];
}
