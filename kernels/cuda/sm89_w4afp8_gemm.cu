// int4_mm on e4m3 for sm_89: each group is summed by the tensor core, at most 128 of K at a time, and scaled into FP32.
#include "mma_int4.cuh"

struct Fp8 : Int4 {
  typedef float Accumulator;
  typedef SumScale Scale;
  static constexpr bool PROMOTED = true;
  static DEVICE float value(float sum) { return sum; }

  template <s32>
  static DEVICE void prepare(Left& left, const u8* weight, const u8*, s32 lane, const Scale&) {
    u32 words[4];
    read(words, weight, lane);
#pragma unroll
    for (s32 step = 0; step < 2; step++)
      int4_to_e4m3(left.values[step], words[2 * step], words[2 * step + 1]);
  }

  template <s32>
  static DEVICE void mma(float (&c)[4], const Left& left, const u32 (&right)[4], s32 step) {
    mma_e4m3(c, left.values[step], right[2 * step], right[2 * step + 1]);
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, Sums<Fp8>::RESIDENT)
sm89_w4afp8_gemm(const __grid_constant__ SwapArguments args) {
  mma_swap_ab<Fp8>(args);
}
