// sparse_scaled_mm on bf16 and fp16 for sm_90a: sums in FP32.
#include "sm90_sparse.cuh"

struct Floats : Sparse<Floats, float, false> {
  static DEVICE void wgmma(float (&sums)[SUMS], u64 left, u64 right, u32 metadata, bool add) {
    if constexpr (IN == BF16) {
      wgmma_sp_bf16<TILE_M>(sums, left, right, metadata, add);
    } else {
      wgmma_sp_f16<TILE_M>(sums, left, right, metadata, add);
    }
  }
};

extern "C" __global__ void CLUSTERED __launch_bounds__(THREADS, 1)
sm90_sparse_16bit_gemm(const __grid_constant__ HopperSwapArguments args) {
  sm90_swap_ab<Floats>(args);
}
