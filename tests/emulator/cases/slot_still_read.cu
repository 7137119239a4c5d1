// A ring of two slots: the next copy goes where other threads still read.
#include "case.cuh"

CASE(slot_still_read) {
  SHARED_MEMORY(memory);
  const u32 i = threadIdx.x, slot_bytes = blockDim.x * 16;
  cp_async_16(memory + 16 * i, args.in + 4 * i, 16);
  cp_async_commit();
  for (u32 step = 0; step < 4; step++) {
    cp_async_wait<0>();
    __syncthreads();
    const s32* slot = reinterpret_cast<const s32*>(memory + step % 2 * slot_bytes);
    const u32 next = CORRECT ? step + 1 : step + 2;  // the one that everyone has left, or the one being read
    args.out[i] = slot[4 * (blockDim.x - 1 - i)];
    cp_async_16(memory + next % 2 * slot_bytes + 16 * i, args.in + 4 * i, 16);
    cp_async_commit();
  }
}
