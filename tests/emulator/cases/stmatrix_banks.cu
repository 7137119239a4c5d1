// stmatrix by one warp. WHAT: 0 rows of 64 bytes as they lie, 1 swizzled.
#include "hopper.cuh"

CASE(stmatrix_banks) {
  SHARED_MEMORY(memory);
  const u32 i = threadIdx.x, row = i % 16, chunk = i / 16;
  const u32 fragment[4] = {i, i, i, i};
  stmatrix_x4(memory + row * 64 + (WHAT == 1 ? chunk ^ (row >> 1 & 3) : chunk) * 16, fragment);
}
