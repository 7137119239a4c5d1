// Two copies to one place without a wait between them.
#include "case.cuh"

CASE(copied_twice) {
  SHARED_MEMORY(memory);
  const u32 i = threadIdx.x;
  cp_async_16(memory + 16 * i, args.in + 4 * i, 16);
  cp_async_commit();
  if (CORRECT) cp_async_wait<0>();
  cp_async_16(memory + 16 * i, args.in + 4 * i, 0);
  cp_async_commit();
  cp_async_wait<0>();
  args.out[i] = reinterpret_cast<const s32*>(memory)[4 * i];
}
