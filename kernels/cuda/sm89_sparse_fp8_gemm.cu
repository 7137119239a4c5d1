// sparse_scaled_mm on e4m3 for sm_89. The tensor core keeps about 14 bits of a sum, so it is promoted into FP32 as it
// grows, but where FAST_SUMS asks for the whole sum as it is.
#include "mma_sparse.cuh"

struct Fp8 : Sparse<float, !FAST_SUMS> {
  template <s32>
  static DEVICE void mma(float (&c)[4], const Left& left, const u32 (&right)[4], s32) {
    mma_sp_e4m3(c, left.values, right, left.metadata);
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, Sums<Fp8>::RESIDENT)
sm89_sparse_fp8_gemm(const __grid_constant__ SwapArguments args) {
  mma_swap_ab<Fp8>(args);
}
