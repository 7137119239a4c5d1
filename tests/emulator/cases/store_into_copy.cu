// Stores where a copy is on its way: which of the two comes last?
#include "case.cuh"

CASE(store_into_copy) {
  SHARED_MEMORY(memory);
  const u32 i = threadIdx.x;
  cp_async_16(memory + 16 * i, args.in + 4 * i, 16);
  cp_async_commit();
  if (CORRECT) cp_async_wait<0>();
  reinterpret_cast<s32*>(memory)[4 * i] = -1;
  cp_async_wait<0>();
  args.out[i] = reinterpret_cast<const s32*>(memory)[4 * i + 1];
}
