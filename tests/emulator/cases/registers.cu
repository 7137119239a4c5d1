// Registers given back. WHAT: 0 a number that is no multiple of 8, 1 too many, 2 by one warp of four, 3 by two warps
// that are no warpgroup.
#include "hopper.cuh"

CASE(registers) {
  if (!CORRECT && WHAT == 0) registers_decrease<42>();
  if (!CORRECT && WHAT == 1) registers_increase<264>();
  if (!CORRECT ? WHAT != 2 || threadIdx.x < 32 : blockDim.x % 128 == 0) registers_decrease<40>();
  args.out[threadIdx.x] = 1;
}
