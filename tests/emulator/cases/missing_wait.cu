// Reads what a copy may not have brought yet.
#include "case.cuh"

CASE(missing_wait) {
  SHARED_MEMORY(memory);
  const u32 i = threadIdx.x;
  cp_async_16(memory + 16 * i, args.in + 4 * i, 16);
  cp_async_commit();
  if (CORRECT) cp_async_wait<0>();
  __syncthreads();
  args.out[i] = reinterpret_cast<const s32*>(memory)[i];
}
