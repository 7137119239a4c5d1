// mma_f16, mma_bf16: c += a b^T for operands as the lanes hold them. One block for each product.
#include "ptx.cuh"

struct ProbeArguments {
  const u32* a_f16;   // [products][32 lanes][4]
  const u32* b_f16;   // [products][32 lanes][2]
  const u32* a_bf16;  // as those
  const u32* b_bf16;
  const float* c;     // [products][32 lanes][4]
  float* sums_f16;    // [products][32 lanes][4]
  float* sums_bf16;
};

extern "C" __global__ void probe_mma_16(const __grid_constant__ ProbeArguments args) {
  const s32 at = blockIdx.x * 32 + threadIdx.x;
  u32 a[4];
  float c[4];
  for (s32 r = 0; r < 4; r++) a[r] = args.a_f16[4 * at + r];
  for (s32 r = 0; r < 4; r++) c[r] = args.c[4 * at + r];
  mma_f16(c, a, args.b_f16[2 * at], args.b_f16[2 * at + 1]);
  for (s32 r = 0; r < 4; r++) args.sums_f16[4 * at + r] = c[r];
  for (s32 r = 0; r < 4; r++) a[r] = args.a_bf16[4 * at + r];
  for (s32 r = 0; r < 4; r++) c[r] = args.c[4 * at + r];
  mma_bf16(c, a, args.b_bf16[2 * at], args.b_bf16[2 * at + 1]);
  for (s32 r = 0; r < 4; r++) args.sums_bf16[4 * at + r] = c[r];
}
