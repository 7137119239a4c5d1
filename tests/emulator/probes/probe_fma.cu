// fma_f16x2 and fma_bf16x2 of the same words.
#include "ptx.cuh"

struct ProbeArguments {
  const u32* a;  // [blocks * threads] each
  const u32* b;
  const u32* c;
  u32* f16;
  u32* bf16;
};

extern "C" __global__ void probe_fma(const __grid_constant__ ProbeArguments args) {
  const s32 i = blockIdx.x * blockDim.x + threadIdx.x;
  args.f16[i] = fma_f16x2(args.a[i], args.b[i], args.c[i]);
  args.bf16[i] = fma_bf16x2(args.a[i], args.b[i], args.c[i]);
}
