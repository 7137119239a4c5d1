// mma_sp_s8: c += a b^T for operands and metadata as the lanes hold them. One block for each product.
#include "ptx.cuh"

struct ProbeArguments {
  const u32* a;         // [products][32 lanes][4]
  const u32* b;         // [products][32 lanes][4]
  const u32* metadata;  // [products][32 lanes]
  const s32* c;         // [products][32 lanes][4]
  s32* sums;            // [products][32 lanes][4]
};

extern "C" __global__ void probe_mma_sp_s8(const __grid_constant__ ProbeArguments args) {
  const s32 at = blockIdx.x * 32 + threadIdx.x;
  u32 a[4], b[4];
  s32 c[4];
  for (s32 r = 0; r < 4; r++) a[r] = args.a[4 * at + r];
  for (s32 r = 0; r < 4; r++) b[r] = args.b[4 * at + r];
  for (s32 r = 0; r < 4; r++) c[r] = args.c[4 * at + r];
  mma_sp_s8(c, a, b, args.metadata[at]);
  for (s32 r = 0; r < 4; r++) args.sums[4 * at + r] = c[r];
}
