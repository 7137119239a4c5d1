// int4_mm on e4m3 for sm_90a: each group is summed by the tensor core, at most 128 of K at a time, and scaled into FP32.
#include "sm90_int4.cuh"

struct Fp8 : Int4Codes<Fp8, float> {
  static DEVICE float value(float sum) { return sum; }
  static DEVICE void two(u32 (&values)[4], u32 first, u32 second) { int4_to_e4m3(values, first, second); }

  static DEVICE void wgmma(float (&sums)[SUMS], const u32 (&left)[4], u64 right, bool add) {
    wgmma_rs_e4m3<TILE_M>(sums, left, right, add);
  }
};

extern "C" __global__ void CLUSTERED __launch_bounds__(THREADS, 1)
sm90_w4afp8_gemm(const __grid_constant__ HopperSwapArguments args) {
  sm90_swap_ab<Fp8>(args);
}
