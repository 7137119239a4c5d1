// wgmma_sp_s8, wgmma_descriptor_64: both halves of rows of 64 bytes of kept values with both halves of rows of 128
// bytes, of one width in each block.
#include "ptx.cuh"
#include "wgmma_probe.cuh"
#include "wgmma_sparse.cuh"

struct ProbeArguments {
  TensorMap a_map, b_map;  // boxes of 64 rows of 64 and of 128 bytes
  const u8* a;             // [products * 64][64]
  const u8* b;             // [products * 256][128]
  const u32* metadata;     // [products][128 threads][2]
  const s32* before;       // [products][128 threads][128]
  s32* sums;               // [products][128 threads][128]
};

template <s32 N>
DEVICE void product(const ProbeArguments& args, u64 a, u64 b) {
  const u32* const metadata = args.metadata + 2 * (blockIdx.x * 128 + threadIdx.x);
  const u32 first = metadata[0], second = metadata[1];
  s32 sums[N / 2];
  load_sums(sums, args.before);
  wgmma_fence();
  wgmma_sp_s8<N>(sums, a, b, first, adds());
  wgmma_sp_s8<N>(sums, a + 2, b + 4, second, true);
  wgmma_commit();
  wgmma_wait<0>();
  store_sums(sums, args.sums);
}

extern "C" __global__ __launch_bounds__(128) void probe_wgmma_sp_s8(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  u8* const a = shared + 256 * 128 + 512;
  u64* const full = reinterpret_cast<u64*>(a + 64 * 64);
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, 64 * 64 + 256 * 128);
    tma_load(a, &args.a_map, full, 0, 64 * blockIdx.x);
    for (s32 i = 0; i < 4; i++) tma_load(shared + i * 64 * 128, &args.b_map, full, 0, 256 * blockIdx.x + 64 * i);
  }
  __syncthreads();
  mbarrier_wait(full, 0);
  WITH_WIDTH(product, args, wgmma_descriptor_64(a), wgmma_descriptor(shared));
}
