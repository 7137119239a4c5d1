// sparse_scaled_mm on INT8 for sm_80 and newer: exact sums in INT32.
#include "mma_sparse.cuh"

struct Int8 : Sparse<s32, false, true> {
  template <s32>
  static DEVICE void mma(s32 (&c)[4], const Left& left, const u32 (&right)[4], s32) {
    mma_sp_s8(c, left.values, right, left.metadata);
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, Sums<Int8>::RESIDENT)
sm80_sparse_int8_gemm(const __grid_constant__ SwapArguments args) {
  mma_swap_ab<Int8>(args);
}
