// wgmma_s8, wgmma_descriptor: bytes 0 to 31 and 64 to 95 of each row, for every number of columns that there is. One
// block for each product; the sums as the threads hold them.
#include "ptx.cuh"
#include "wgmma.cuh"

struct ProbeArguments {
  TensorMap a_map, b_map;  // boxes of 64 rows of 128 bytes
  const u8* a;             // [products * 64][128]
  const u8* b;             // [products * 256][128]
  const s32* before;        // [products][128 threads][128]
  s32* sums;                // [products][5][128 threads][128]
};

template <s32 N>
DEVICE void product(const ProbeArguments& args, s32 which, u64 a, u64 b) {
  const s32 given = (blockIdx.x * 128 + threadIdx.x) * 128;
  const s32 out = ((blockIdx.x * 5 + which) * 128 + threadIdx.x) * 128;
  s32 sums[N / 2];
  for (s32 i = 0; i < N / 2; i++) sums[i] = args.before[given + i];
  wgmma_fence();
  wgmma_s8<N>(sums, a, b, blockIdx.x % 4 != 3);  // every fourth begins anew
  wgmma_s8<N>(sums, a + 4, b + 4, true);
  wgmma_commit();
  wgmma_wait<0>();
  for (s32 i = 0; i < N / 2; i++) args.sums[out + i] = sums[i];
}

extern "C" __global__ __launch_bounds__(128) void probe_wgmma_s8(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  u8* const b = shared + 64 * 128;
  u64* const full = reinterpret_cast<u64*>(b + 256 * 128);
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, 5 * 64 * 128);
    tma_load(shared, &args.a_map, full, 0, 64 * blockIdx.x);
    for (s32 i = 0; i < 4; i++) tma_load(b + i * 64 * 128, &args.b_map, full, 0, 256 * blockIdx.x + 64 * i);
  }
  __syncthreads();
  mbarrier_wait(full, 0);
  const u64 left = wgmma_descriptor(shared), right = wgmma_descriptor(b);
  product<32>(args, 0, left, right);
  product<64>(args, 1, left, right);
  product<128>(args, 2, left, right);
  product<192>(args, 3, left, right);
  product<256>(args, 4, left, right);
}
