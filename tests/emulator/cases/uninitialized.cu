// Reads shared memory that nobody wrote. WHAT: 0 a load, 1 the last bytes of a wider load, 2 ldmatrix, 3 what only the
// block before wrote.
#include "case.cuh"

CASE(uninitialized) {
  SHARED_MEMORY(memory);
  s32* shared = reinterpret_cast<s32*>(memory);
  const u32 i = threadIdx.x;
  const u32 written = WHAT == 3 && blockIdx.x != 0 && !CORRECT ? 0 : args.n - (WHAT != 3 && !CORRECT);
  for (u32 each = i; each < written; each += blockDim.x) shared[each] = 0;
  __syncthreads();
  s32 value = 0;
  if (WHAT == 0 && i == 5) value = shared[args.n - 1];
  if (WHAT == 1 && i == 5) {
    const uint4 whole = *reinterpret_cast<const uint4*>(shared + args.n - 4);
    value = whole.x;
  }
  if (WHAT == 2) {
    u32 fragment[4];
    ldmatrix_x4(fragment, shared + args.n - 4);
    value = fragment[0];
  }
  if (WHAT == 3) value = shared[i];
  args.out[blockIdx.x * blockDim.x + i] = value;
}
