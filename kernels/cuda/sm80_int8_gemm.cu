// scaled_mm on INT8 for sm_80 and newer: exact sums in INT32.
#include "mma_gemm.cuh"

struct Int8 {
  typedef s32 Accumulator;
  static constexpr bool PROMOTED = false;
  static DEVICE void mma(s32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_s8(c, a, b0, b1); }
};

extern "C" __global__ void __launch_bounds__(THREADS, Sums<Int8>::RESIDENT)
sm80_int8_gemm(const __grid_constant__ MmaArguments args) {
  mma_gemm<Int8>(args);
}
