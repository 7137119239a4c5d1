// wgmma_sp_f16, wgmma_sp_bf16, wgmma_descriptor_64: both halves of rows of 64 bytes of kept values with both halves of
// rows of 128 bytes, of one width in each block.
#include "ptx.cuh"
#include "wgmma_probe.cuh"
#include "wgmma_sparse.cuh"

struct ProbeArguments {
  TensorMap a_f16_map, b_f16_map, a_bf16_map, b_bf16_map;  // boxes of 64 rows of 64 and of 128 bytes
  const u16* a_f16;     // [products * 64][32]
  const u16* b_f16;     // [products * 256][64]
  const u16* a_bf16;    // as those
  const u16* b_bf16;
  const u32* metadata;  // [products][128 threads][2]
  const float* before;  // [products][128 threads][128]
  float* sums_f16;      // [products][128 threads][128]
  float* sums_bf16;
};

// The tiles of one type, when they have come.
DEVICE void load(u8* a, u8* b, u64* full, const TensorMap* a_map, const TensorMap* b_map, u32 parity) {
  __syncthreads();
  if (threadIdx.x == 0) {
    mbarrier_expect_bytes(full, 64 * 64 + 256 * 128);
    tma_load(a, a_map, full, 0, 64 * blockIdx.x);
    for (s32 i = 0; i < 4; i++) tma_load(b + i * 64 * 128, b_map, full, 0, 256 * blockIdx.x + 64 * i);
  }
  mbarrier_wait(full, parity);
}

template <s32 N>
DEVICE void products(const ProbeArguments& args, u8* a, u8* b, u64* full) {
  const u32* const metadata = args.metadata + 2 * (blockIdx.x * 128 + threadIdx.x);
  const u32 first = metadata[0], second = metadata[1];
  const u64 left = wgmma_descriptor_64(a), right = wgmma_descriptor(b);
  float sums[N / 2];
  load_sums(sums, args.before);
  load(a, b, full, &args.a_f16_map, &args.b_f16_map, 0);
  wgmma_fence();
  wgmma_sp_f16<N>(sums, left, right, first, adds());
  wgmma_sp_f16<N>(sums, left + 2, right + 4, second, true);
  wgmma_commit();
  wgmma_wait<0>();
  store_sums(sums, args.sums_f16);
  load_sums(sums, args.before);
  load(a, b, full, &args.a_bf16_map, &args.b_bf16_map, 1);
  wgmma_fence();
  wgmma_sp_bf16<N>(sums, left, right, first, adds());
  wgmma_sp_bf16<N>(sums, left + 2, right + 4, second, true);
  wgmma_commit();
  wgmma_wait<0>();
  store_sums(sums, args.sums_bf16);
}

extern "C" __global__ __launch_bounds__(128) void probe_wgmma_sp_16(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  u8* const a = shared + 256 * 128 + 512;
  u64* const full = reinterpret_cast<u64*>(a + 64 * 64);
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
  }
  WITH_WIDTH(products, args, a, shared, full);
}
