// An address that is no multiple of the access's size. WHAT: 0 read of a uint4, 1 write of a uint2 that is built in
// place, 2 write of a uint4, 3 read of two bytes, 4 source of a copy, 5 destination of a copy, 6 row of ldmatrix.
#include "case.cuh"

CASE(misaligned) {
  SHARED_MEMORY(memory);
  s32* shared = reinterpret_cast<s32*>(memory);
  const u32 i = threadIdx.x;
  const s32 off = CORRECT ? 4 : 1;
  for (u32 each = i; each < args.n; each += blockDim.x) shared[each] = 0;
  __syncthreads();
  s32 value = 0;
  if (WHAT == 0 && i == 5) value = reinterpret_cast<const uint4*>(args.in + off)->w;
  if (WHAT == 0 && i == 5) {
    const uint4 whole = *reinterpret_cast<const uint4*>(args.in + off);
    value = whole.x + whole.w;
  }
  if (WHAT == 1 && i == 5) *reinterpret_cast<uint2*>(shared + off) = make_uint2(i, 1);
  if (WHAT == 2 && i == 5) *reinterpret_cast<uint4*>(shared + off) = uint4{i, 1, 2, 3};
  if (WHAT == 3 && i == 5) value = *reinterpret_cast<const u16*>(memory + off);
  if (WHAT == 4 && i == 5) cp_async_16(memory, args.in + off, 16);
  if (WHAT == 5 && i == 5) cp_async_16(memory + 8 * off, args.in, 16);
  if (WHAT == 6) {
    u32 fragment[4];
    ldmatrix_x4(fragment, memory + (i == 5 ? 4 * off : 0));
    value = fragment[0];
  }
  args.out[i] = value;
}
