// Accesses of one warp to global memory. WHAT: 0 words in a row, 1 every eighth word, 2 one word by all, 3 16 bytes in
// a row, 4 words in a row from the second on, 5 half of the lanes, 6 copies in a row, the last lane of 4 bytes, 7 a
// loop that some lanes leave early.
#include "case.cuh"

CASE(sectors) {
  SHARED_MEMORY(memory);
  const s32 i = threadIdx.x;
  s32 value = 0;
  if (WHAT == 0) value = args.in[i];
  if (WHAT == 1) value = args.in[8 * i];
  if (WHAT == 2) value = args.in[3];
  if (WHAT == 3) {
    const uint4 loaded = reinterpret_cast<const uint4*>(args.in)[i];
    value = loaded.x;
  }
  if (WHAT == 4) value = args.in[i + 1];
  if (WHAT == 5 && i < 16) value = args.in[i];
  if (WHAT == 6) {
    cp_async_16(memory + 16 * i, args.in + 4 * i, i == 31 ? 4 : 16);
    cp_async_commit();
  }
  if (WHAT == 7) {
#pragma GCC unroll 1
    for (s32 step = 0; step <= i % 2; step++) value += args.in[32 * step + i];
  }
  __syncwarp();
  args.out[2 * i] = value;
}
