// int4_mm on INT8 for sm_80 and newer: each group is summed exactly in INT32, and scaled into FP32.
#include "mma_int4.cuh"

struct Int8 : Int4Codes<Int8, s32> {
  static DEVICE float value(s32 sum) { return static_cast<float>(sum) * INT4_S8_UNIT; }
  static DEVICE void two(u32 (&values)[4], u32 first, u32 second) { int4_to_s8(values, first, second); }

  template <s32>
  static DEVICE void mma(s32 (&c)[4], const Left& left, const u32 (&right)[4], s32 step) {
    mma_s8(c, left.values[step], right[2 * step], right[2 * step + 1]);
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, Sums<Int8>::RESIDENT)
sm80_w4a8_gemm(const __grid_constant__ SwapArguments args) {
  mma_swap_ab<Int8>(args);
}
