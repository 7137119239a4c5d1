// More local memory than a thread has.
#include "case.cuh"

__noinline__ s32 deep(s32 levels, const s32* in) {
  volatile s32 local[1024];
  local[levels % 1024] = in[0];
  if (levels == 0) return local[0];
  return deep(levels - 1, in) + local[levels % 1024];
}

CASE(deep_stack) { args.out[threadIdx.x] = deep(CORRECT ? 3 : 1000, args.in); }
