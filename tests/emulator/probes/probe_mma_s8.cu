// mma_s8: c += a b^T for operands as the lanes hold them. One block for each product.
#include "ptx.cuh"

struct ProbeArguments {
  const u32* a;  // [products][32 lanes][4]
  const u32* b;  // [products][32 lanes][2]
  const s32* c;  // [products][32 lanes][4]
  s32* sums;     // [products][32 lanes][4]
};

extern "C" __global__ void probe_mma_s8(const __grid_constant__ ProbeArguments args) {
  const s32 at = blockIdx.x * 32 + threadIdx.x;
  u32 a[4];
  s32 c[4];
  for (s32 r = 0; r < 4; r++) a[r] = args.a[4 * at + r];
  for (s32 r = 0; r < 4; r++) c[r] = args.c[4 * at + r];
  mma_s8(c, a, args.b[2 * at], args.b[2 * at + 1]);
  for (s32 r = 0; r < 4; r++) args.sums[4 * at + r] = c[r];
}
