// sparse_scaled_mm on INT8 for sm_90a: exact sums in INT32.
#include "sm90_sparse.cuh"

struct Int8 : Sparse<Int8, s32, false> {
  static DEVICE void wgmma(s32 (&sums)[SUMS], u64 left, u64 right, u32 metadata, bool add) {
    wgmma_sp_s8<TILE_M>(sums, left, right, metadata, add);
  }
};

extern "C" __global__ void CLUSTERED __launch_bounds__(THREADS, 1)
sm90_sparse_int8_gemm(const __grid_constant__ HopperSwapArguments args) {
  sm90_swap_ab<Int8>(args);
}
