// bf16x2 and f16x2: pairs of floats to pairs of 16-bit floats. f16_to_float: every half, one after the other.
#include "ptx.cuh"

struct ProbeArguments {
  const float* values;  // [65536][2]
  u32* bf16;            // [65536]
  u32* f16;             // [65536]
  float* halves;        // [65536]
};

extern "C" __global__ void probe_halves(const __grid_constant__ ProbeArguments args) {
  const s32 i = blockIdx.x * blockDim.x + threadIdx.x;
  args.bf16[i] = bf16x2(args.values[2 * i], args.values[2 * i + 1]);
  args.f16[i] = f16x2(args.values[2 * i], args.values[2 * i + 1]);
  args.halves[i] = f16_to_float(static_cast<u16>(i));
}
