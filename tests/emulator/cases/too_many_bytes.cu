// A copy is at most 16 bytes; with none, its source may be anything.
#include "case.cuh"

CASE(too_many_bytes) {
  SHARED_MEMORY(memory);
  const u32 i = threadIdx.x;
  cp_async_16(memory + 16 * i, args.in + 4 * args.n, CORRECT ? 0 : 17);
  cp_async_commit();
  cp_async_wait<0>();
  args.out[i] = reinterpret_cast<const s32*>(memory)[4 * i];
}
