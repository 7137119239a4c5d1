// One element too far. WHAT: 0 global read, 1 global write, 2 shared read, 3 shared write, 4 global read before the
// beginning, 5 shared read before the beginning, 6 source of a copy, 7 destination of a copy, 8 row of ldmatrix,
// 9 a struct, 10 memcpy, 11 null.
#include "case.cuh"

struct Many {
  s32 values[12];
};

CASE(bounds) {
  SHARED_MEMORY(memory);
  s32* shared = reinterpret_cast<s32*>(memory);
  const u32 i = threadIdx.x, last = args.n - 1;
  const s32 beyond = CORRECT ? 0 : 1;
  for (u32 each = i; each < args.n; each += blockDim.x) shared[each] = args.in[each];
  __syncthreads();
  s32 value = 1;
  if (WHAT == 0 && i == 5) value = args.in[last + beyond];
  if (WHAT == 1 && i == 5) args.out[last + beyond] = 3;
  if (WHAT == 2 && i == 5) value = shared[last + beyond];
  if (WHAT == 3 && i == 5) shared[last + beyond] = 3;
  if (WHAT == 4 && i == 5) value = args.in[-beyond];
  if (WHAT == 5 && i == 5) value = shared[-beyond];
  if (WHAT == 6 && i == 5) cp_async_16(memory, args.in + args.n - 4 + 4 * beyond, 4);
  if (WHAT == 7 && i == 5) cp_async_16(memory + 4 * args.n - 16 + 16 * beyond, args.in, 0);
  if (WHAT == 8) {
    u32 fragment[4];
    ldmatrix_x4(fragment, memory + 4 * args.n - 16 + (i == 5 ? 16 * beyond : 0));
    value = fragment[0];
  }
  if (WHAT == 9 && i == 5) {
    const Many many = *reinterpret_cast<const Many*>(args.in + args.n - 12 + beyond);
    for (s32 each : many.values) value += each;
  }
  if (WHAT == 10 && i == 5) memcpy(shared, args.in + beyond, 4 * args.n);
  if (WHAT == 11 && i == 5) value = *(CORRECT ? args.in : static_cast<const s32*>(nullptr));
  if (i < last) args.out[i] = value;
}
