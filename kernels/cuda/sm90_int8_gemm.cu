// scaled_mm on INT8 for sm_90a: exact sums in INT32.
#include "sm90_gemm.cuh"

struct Int8 {
  typedef s32 Accumulator;
  static constexpr bool PROMOTED = false;
  static DEVICE void wgmma(s32 (&sums)[SUMS], u64 a, u64 b, bool add) { wgmma_s8<TILE_N>(sums, a, b, add); }
};

extern "C" __global__ void CLUSTERED __launch_bounds__(THREADS, 1)
sm90_int8_gemm(const __grid_constant__ HopperArguments args) {
  sm90_gemm<Int8>(args);
}
