// wgmma_rs_s8, wgmma_descriptor_64: registers with both halves of rows of 64 bytes, of one width in each block.
#include "ptx.cuh"
#include "wgmma_probe.cuh"
#include "wgmma_registers.cuh"

struct ProbeArguments {
  TensorMap b_map;    // boxes of 64 rows of 64 bytes
  const u32* a;       // [products][128 threads][2][4]
  const u8* b;        // [products * 256][64]
  const s32* before;  // [products][128 threads][128]
  s32* sums;          // [products][128 threads][128]
};

template <s32 N>
DEVICE void product(const ProbeArguments& args, u64 b) {
  const u32* const given = args.a + 8 * (blockIdx.x * 128 + threadIdx.x);
  const u32 first[4] = {given[0], given[1], given[2], given[3]};
  const u32 second[4] = {given[4], given[5], given[6], given[7]};
  s32 sums[N / 2];
  load_sums(sums, args.before);
  wgmma_fence();
  wgmma_rs_s8<N>(sums, first, b, adds());
  wgmma_rs_s8<N>(sums, second, b + 2, true);
  wgmma_commit();
  wgmma_wait<0>();
  store_sums(sums, args.sums);
}

extern "C" __global__ __launch_bounds__(128) void probe_wgmma_rs_s8(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  u8* const b = shared + 512;
  u64* const full = reinterpret_cast<u64*>(b + 256 * 64);
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, 256 * 64);
    for (s32 i = 0; i < 4; i++) tma_load(b + i * 64 * 64, &args.b_map, full, 0, 256 * blockIdx.x + 64 * i);
  }
  __syncthreads();
  mbarrier_wait(full, 0);
  WITH_WIDTH(product, args, wgmma_descriptor_64(b));
}
