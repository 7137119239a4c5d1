// Writes an operand.
#include "case.cuh"

CASE(read_only) {
  s32* target = CORRECT ? args.out : const_cast<s32*>(args.in);
  target[threadIdx.x] = 1;
}
