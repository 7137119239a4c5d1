// sparse_scaled_mm on bf16 and fp16 for sm_80 and newer: sums in FP32. A word of metadata serves the two instructions of
// a slab: the first reads it in lanes with t = 0 and 1, the second in the others.
#include "mma_sparse.cuh"

struct Floats : Sparse<float, false> {
  template <s32 HALF>
  static DEVICE void mma(float (&c)[4], const Left& left, const u32 (&right)[4], s32) {
    if constexpr (IN == BF16) {
      mma_sp_bf16<HALF>(c, left.values, right, left.metadata);
    } else {
      mma_sp_f16<HALF>(c, left.values, right, left.metadata);
    }
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, Sums<Floats>::RESIDENT)
sm80_sparse_16bit_gemm(const __grid_constant__ SwapArguments args) {
  mma_swap_ab<Floats>(args);
}
