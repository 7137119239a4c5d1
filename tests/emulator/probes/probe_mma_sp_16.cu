// mma_sp_f16, mma_sp_bf16 with both selectors: c += a b^T for operands as the lanes hold them, with one word of
// metadata for both. One block for each product.
#include "ptx.cuh"

struct ProbeArguments {
  const u32* a_f16;     // [products][32 lanes][4]
  const u32* b_f16;     // [products][32 lanes][4]
  const u32* a_bf16;    // as those
  const u32* b_bf16;
  const u32* metadata;  // [products][32 lanes]
  const float* c;       // [products][32 lanes][4]
  float* sums_f16;      // [products][32 lanes][2 selectors][4]
  float* sums_bf16;
};

extern "C" __global__ void probe_mma_sp_16(const __grid_constant__ ProbeArguments args) {
  const s32 at = blockIdx.x * 32 + threadIdx.x;
  const u32 metadata = args.metadata[at];
  u32 a[4], b[4];
  float first[4], second[4];
  for (s32 r = 0; r < 4; r++) a[r] = args.a_f16[4 * at + r];
  for (s32 r = 0; r < 4; r++) b[r] = args.b_f16[4 * at + r];
  for (s32 r = 0; r < 4; r++) first[r] = second[r] = args.c[4 * at + r];
  mma_sp_f16<0>(first, a, b, metadata);
  mma_sp_f16<1>(second, a, b, metadata);
  for (s32 r = 0; r < 4; r++) args.sums_f16[8 * at + r] = first[r];
  for (s32 r = 0; r < 4; r++) args.sums_f16[8 * at + 4 + r] = second[r];
  for (s32 r = 0; r < 4; r++) a[r] = args.a_bf16[4 * at + r];
  for (s32 r = 0; r < 4; r++) b[r] = args.b_bf16[4 * at + r];
  for (s32 r = 0; r < 4; r++) first[r] = second[r] = args.c[4 * at + r];
  mma_sp_bf16<0>(first, a, b, metadata);
  mma_sp_bf16<1>(second, a, b, metadata);
  for (s32 r = 0; r < 4; r++) args.sums_bf16[8 * at + r] = first[r];
  for (s32 r = 0; r < 4; r++) args.sums_bf16[8 * at + 4 + r] = second[r];
}
