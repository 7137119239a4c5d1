// int4_mm on bf16 and fp16 for sm_90a: weights become numbers of that dtype, sums are FP32.
#include "sm90_int4.cuh"

struct Floats : Int4 {
  typedef float Accumulator;
  typedef WeightScale Scale;
  static constexpr bool PROMOTED = false;
  static DEVICE float value(float sum) { return sum; }

  static DEVICE void unpack(u32 (&values)[4], const u32 (&words)[4], s32 step, const Scale& scale) {
    int4_to_floats<IN>(values, words[step], scale);
  }

  static DEVICE void wgmma(float (&sums)[SUMS], const u32 (&left)[4], u64 right, bool add) {
    if constexpr (IN == BF16) {
      wgmma_rs_bf16<TILE_M>(sums, left, right, add);
    } else {
      wgmma_rs_f16<TILE_M>(sums, left, right, add);
    }
  }

  static DEVICE void accumulate(const HopperSwapArguments& args, Sums<Floats>& sums, const Shared<Floats>& shared,
                                Turn& turn, u32 group, s32 channel) {
    accumulate_int4(args, sums, shared, turn, group, channel);
  }
};

extern "C" __global__ void CLUSTERED __launch_bounds__(THREADS, 1)
sm90_w4a16_gemm(const __grid_constant__ HopperSwapArguments args) {
  sm90_swap_ab<Floats>(args);
}
