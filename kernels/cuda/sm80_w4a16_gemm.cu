// int4_mm on bf16 and fp16 for sm_80 and newer: weights become numbers of that dtype, sums are FP32.
#include "mma_int4.cuh"

struct Floats : Int4 {
  typedef float Accumulator;
  typedef WeightScale Scale;
  static constexpr bool PROMOTED = false;
  static DEVICE float value(float sum) { return sum; }

  template <s32 HALF>
  static DEVICE void prepare(Left& left, const u8* weight, const u8*, s32 lane, const Scale& scale) {
    u32 words[4];
    read(words, weight, lane);
#pragma unroll
    for (s32 step = 0; step < 2; step++) int4_to_floats<IN>(left.values[step], words[2 * HALF + step], scale);
  }

  template <s32>
  static DEVICE void mma(float (&c)[4], const Left& left, const u32 (&right)[4], s32 step) {
    if constexpr (IN == BF16) {
      mma_bf16(c, left.values[step], right[2 * step], right[2 * step + 1]);
    } else {
      mma_f16(c, left.values[step], right[2 * step], right[2 * step + 1]);
    }
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, Sums<Floats>::RESIDENT)
sm80_w4a16_gemm(const __grid_constant__ SwapArguments args) {
  mma_swap_ab<Floats>(args);
}
