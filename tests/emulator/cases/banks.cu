// Accesses of one warp to shared memory. WHAT: 0 ldmatrix of 64-byte rows as they lie, 1 swizzled; stores of words:
// 2 in a row, 3 down a column of 32 words, 4 down a padded column, 5 down a column of 32 words in every second lane;
// loads: 6 of one word by all, 7 of 8 bytes in a row, 8 of 16 bytes in a row, 9 of 16 bytes at every 32; copies: 10 in
// a row, 11 down a column.
#include "case.cuh"

CASE(banks) {
  SHARED_MEMORY(memory);
  s32* shared = reinterpret_cast<s32*>(memory);
  const s32 i = threadIdx.x;
  if (WHAT == 0 || WHAT == 1) {
    for (s32 each = i; each < 512; each += 32) shared[each] = each;
    __syncthreads();
    const s32 row = i % 16, chunk = i / 16;
    u32 fragment[4];
    ldmatrix_x4(fragment, memory + row * 64 + (WHAT == 1 ? chunk ^ (row >> 1 & 3) : chunk) * 16);
    args.out[i] = fragment[0];
  }
  if (WHAT == 2) shared[i] = 1;
  if (WHAT == 3) shared[32 * i] = 1;
  if (WHAT == 4) shared[33 * i] = 1;
  if (WHAT == 5 && i % 2 == 0) shared[32 * i] = 1;
  if (WHAT >= 6 && WHAT < 10) {
    for (s32 each = 0; each < 8; each++) shared[32 * each + i] = each;
    __syncthreads();
    if (WHAT == 6) args.out[i] = shared[7];
    if (WHAT == 7) {
      const uint2 loaded = reinterpret_cast<const uint2*>(memory)[i];
      args.out[i] = loaded.x;
    }
    if (WHAT == 8 || WHAT == 9) {
      const uint4 loaded = reinterpret_cast<const uint4*>(memory)[WHAT == 8 ? i : 2 * i];
      args.out[i] = loaded.x;
    }
  }
  if (WHAT == 10) cp_async_16(memory + 16 * i, args.in, 16);
  if (WHAT == 11) cp_async_16(memory + 128 * i, args.in, 16);
}
