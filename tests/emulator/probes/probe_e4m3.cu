// e4m3x2: pairs of floats to pairs of codes.
#include "ptx.cuh"

struct ProbeArguments {
  const float* values;  // [blocks * threads][2]
  u16* pairs;           // [blocks * threads]
};

extern "C" __global__ void probe_e4m3(const __grid_constant__ ProbeArguments args) {
  const s32 i = blockIdx.x * blockDim.x + threadIdx.x;
  args.pairs[i] = e4m3x2(args.values[2 * i], args.values[2 * i + 1]);
}
