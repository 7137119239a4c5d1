// int4_mm on INT8 for sm_90a: each group is summed exactly in INT32, and scaled into FP32.
#include "sm90_int4.cuh"

struct Int8 : Int4Codes<Int8, s32> {
  static DEVICE float value(s32 sum) { return static_cast<float>(sum) * INT4_S8_UNIT; }
  static DEVICE void two(u32 (&values)[4], u32 first, u32 second) { int4_to_s8(values, first, second); }

  static DEVICE void wgmma(s32 (&sums)[SUMS], const u32 (&left)[4], u64 right, bool add) {
    wgmma_rs_s8<TILE_M>(sums, left, right, add);
  }
};

extern "C" __global__ void CLUSTERED __launch_bounds__(THREADS, 1)
sm90_w4a8_gemm(const __grid_constant__ HopperSwapArguments args) {
  sm90_swap_ab<Int8>(args);
}
