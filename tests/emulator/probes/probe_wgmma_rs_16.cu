// wgmma_rs_f16, wgmma_rs_bf16, wgmma_descriptor_64: registers with both halves of rows of 64 bytes, of one width in
// each block.
#include "ptx.cuh"
#include "wgmma_probe.cuh"
#include "wgmma_registers.cuh"

struct ProbeArguments {
  TensorMap b_f16_map, b_bf16_map;  // boxes of 64 rows of 64 bytes
  const u32* a_f16;                 // [products][128 threads][2][4]
  const u16* b_f16;                 // [products * 256][32]
  const u32* a_bf16;                // as those
  const u16* b_bf16;
  const float* before;  // [products][128 threads][128]
  float* sums_f16;      // [products][128 threads][128]
  float* sums_bf16;
};

template <s32 N>
DEVICE void products(const ProbeArguments& args, u64 f16, u64 bf16) {
  const s32 at = 8 * (blockIdx.x * 128 + threadIdx.x);
  u32 first[4], second[4];
  float sums[N / 2];
  for (s32 r = 0; r < 4; r++) first[r] = args.a_f16[at + r];
  for (s32 r = 0; r < 4; r++) second[r] = args.a_f16[at + 4 + r];
  load_sums(sums, args.before);
  wgmma_fence();
  wgmma_rs_f16<N>(sums, first, f16, adds());
  wgmma_rs_f16<N>(sums, second, f16 + 2, true);
  wgmma_commit();
  wgmma_wait<0>();
  store_sums(sums, args.sums_f16);
  for (s32 r = 0; r < 4; r++) first[r] = args.a_bf16[at + r];
  for (s32 r = 0; r < 4; r++) second[r] = args.a_bf16[at + 4 + r];
  load_sums(sums, args.before);
  wgmma_fence();
  wgmma_rs_bf16<N>(sums, first, bf16, adds());
  wgmma_rs_bf16<N>(sums, second, bf16 + 2, true);
  wgmma_commit();
  wgmma_wait<0>();
  store_sums(sums, args.sums_bf16);
}

extern "C" __global__ __launch_bounds__(128) void probe_wgmma_rs_16(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  u8* const f16 = shared + 512;
  u8* const bf16 = f16 + 256 * 64;
  u64* const full = reinterpret_cast<u64*>(bf16 + 256 * 64);
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, 2 * 256 * 64);
    for (s32 i = 0; i < 4; i++) {
      tma_load(f16 + i * 64 * 64, &args.b_f16_map, full, 0, 256 * blockIdx.x + 64 * i);
      tma_load(bf16 + i * 64 * 64, &args.b_bf16_map, full, 0, 256 * blockIdx.x + 64 * i);
    }
  }
  __syncthreads();
  mbarrier_wait(full, 0);
  WITH_WIDTH(products, args, wgmma_descriptor_64(f16), wgmma_descriptor_64(bf16));
}
