// What of the CUDA language the emulator imitates: shuffles, roundings, minima. One warp for each set of values.
#include "ptx.cuh"

struct ProbeArguments {
  const float* x;   // [blocks][32]
  const float* y;   // [blocks][32]
  float* shuffled;  // [blocks][32][10]
  float* floats;    // [blocks][32][10]
  s32* integers;    // [blocks][32][8]
};

extern "C" __global__ void probe_language(const __grid_constant__ ProbeArguments args) {
  const s32 lane = threadIdx.x, i = blockIdx.x * 32 + lane;
  const float x = args.x[i], y = args.y[i];
  constexpr u32 ALL = 0xffffffff;

  float* shuffled = args.shuffled + 10 * i;
  shuffled[0] = __shfl_xor_sync(ALL, x, 1);
  shuffled[1] = __shfl_xor_sync(ALL, x, 16);
  shuffled[2] = __shfl_xor_sync(ALL, x, 12, 8);
  shuffled[3] = __shfl_sync(ALL, x, 5);
  shuffled[4] = __shfl_sync(ALL, x, lane * 7 + 3);
  shuffled[5] = __shfl_sync(ALL, x, 6, 4);
  shuffled[6] = __shfl_down_sync(ALL, x, 4);
  shuffled[7] = __shfl_down_sync(ALL, x, 3, 8);
  shuffled[8] = __shfl_up_sync(ALL, x, 2);
  shuffled[9] = __shfl_up_sync(ALL, x, 3, 8);

  float* floats = args.floats + 10 * i;
  floats[0] = __fadd_rn(x, y);
  floats[1] = __fmul_rn(x, y);
  floats[2] = __fdiv_rn(x, y);
  floats[3] = __fmaf_rn(x, y, x);
  floats[4] = fmaxf(x, y);
  floats[5] = fminf(x, y);
  floats[6] = rintf(x);
  floats[7] = sqrtf(fabsf(x));
  floats[8] = x / y;
  floats[9] = __uint_as_float(__float_as_uint(x) ^ 0x80000000);

  s32* integers = args.integers + 8 * i;
  integers[0] = __float2int_rn(x);
  integers[1] = __shfl_xor_sync(ALL, __float_as_int(x), 3);
  integers[2] = min(__float_as_int(x), __float_as_int(y));
  integers[3] = max(lane, 7);
  integers[4] = static_cast<s32>(max(__float_as_uint(x), __float_as_uint(y)));
  integers[5] = threadIdx.x + 100 * threadIdx.y + 10000 * blockIdx.x;
  integers[6] = blockDim.x + 100 * blockDim.y + 10000 * gridDim.x;
  const uint4 vector = make_uint4(__shfl_xor_sync(ALL, 2u, 1), 3, 4, 5);
  integers[7] = vector.x + vector.y + vector.z + vector.w;
}
