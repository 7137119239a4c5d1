// permute_bytes, and __byte_perm and __ldg of the language: bytes of two words by any selector.
#include "ptx.cuh"

struct ProbeArguments {
  const u32* a;  // [blocks * threads] each
  const u32* b;
  const u32* selectors;
  u32* with_signs;
  u32* without;
};

extern "C" __global__ void probe_bytes(const __grid_constant__ ProbeArguments args) {
  const s32 i = blockIdx.x * blockDim.x + threadIdx.x;
  args.with_signs[i] = permute_bytes(__ldg(args.a + i), __ldg(args.b + i), args.selectors[i]);
  args.without[i] = __byte_perm(args.a[i], args.b[i], args.selectors[i]);
}
