// int4_mm on e4m3 for sm_89: each group is summed by the tensor core, at most 128 of K at a time, and scaled into FP32.
#include "mma_int4.cuh"

struct Fp8 : Int4Codes<Fp8, float> {
  static DEVICE float value(float sum) { return sum; }
  static DEVICE void two(u32 (&values)[4], u32 first, u32 second) { int4_to_e4m3(values, first, second); }

  template <s32>
  static DEVICE void mma(float (&c)[4], const Left& left, const u32 (&right)[4], s32 step) {
    mma_e4m3(c, left.values[step], right[2 * step], right[2 * step + 1]);
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, Sums<Fp8>::RESIDENT)
sm89_w4afp8_gemm(const __grid_constant__ SwapArguments args) {
  mma_swap_ab<Fp8>(args);
}
