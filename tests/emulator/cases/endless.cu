// Waits for a value that nobody will write.
#include "case.cuh"

CASE(endless) {
  const volatile s32* flag = args.out;
  while (!CORRECT && *flag == 0) continue;
  args.out[threadIdx.x] = args.in[threadIdx.x];
}
