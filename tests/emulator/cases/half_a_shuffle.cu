// Half of the lanes shuffle, and name all of them.
#include "case.cuh"

CASE(half_a_shuffle) {
  const u32 i = threadIdx.x;
  s32 value = args.in[i];
  if (i % 32 < 16) value += __shfl_xor_sync(CORRECT ? 0x0000ffff : 0xffffffff, value, 1);
  args.out[i] = value;
}
