// scaled_mm on e4m3 for sm_90a. FAST_SUMS leaves the whole sum to the tensor core.
#include "sm90_gemm.cuh"

struct Fp8 {
  typedef float Accumulator;
  static constexpr bool PROMOTED = !FAST_SUMS;
  static DEVICE void wgmma(float (&sums)[SUMS], u64 a, u64 b, bool add) { wgmma_e4m3<TILE_N>(sums, a, b, add); }
};

extern "C" __global__ void CLUSTERED __launch_bounds__(THREADS, 1)
sm90_fp8_gemm(const __grid_constant__ HopperArguments args) {
  sm90_gemm<Fp8>(args);
}
