// scaled_mm on e4m3 for sm_89. The tensor core keeps about 14 bits of a sum, so it is promoted into FP32 as it grows, but
// where FAST_SUMS asks for the whole sum as it is.
#include "mma_gemm.cuh"

struct Fp8 {
  typedef float Accumulator;
  static constexpr bool PROMOTED = !FAST_SUMS;
  static DEVICE void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_e4m3(c, a, b0, b1); }
};

extern "C" __global__ void __launch_bounds__(THREADS, Sums<Fp8>::RESIDENT)
sm89_fp8_gemm(const __grid_constant__ MmaArguments args) {
  mma_gemm<Fp8>(args);
}
