// sparse_scaled_mm on e4m3 for sm_90a, promoted after every step. FAST_SUMS leaves the whole sum to the tensor core.
#include "sm90_sparse.cuh"

struct Fp8 : Sparse<Fp8, float, !FAST_SUMS> {
  static DEVICE void wgmma(float (&sums)[SUMS], u64 left, u64 right, u32 metadata, bool add) {
    wgmma_sp_e4m3<TILE_M>(sums, left, right, metadata, add);
  }
};

extern "C" __global__ void CLUSTERED __launch_bounds__(THREADS, 1)
sm90_sparse_fp8_gemm(const __grid_constant__ HopperSwapArguments args) {
  sm90_swap_ab<Fp8>(args);
}
