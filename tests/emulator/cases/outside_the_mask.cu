// Wants the value of a lane that does not take part.
#include "case.cuh"

CASE(outside_the_mask) {
  const u32 i = threadIdx.x;
  s32 value = args.in[i];
  if (i % 32 < 16) value = __shfl_sync(0x0000ffff, value, CORRECT ? 3 : 17);
  args.out[i] = value;
}
