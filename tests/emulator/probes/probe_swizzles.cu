// tma_load and tma_store with the other swizzles: boxes of 8 rows of 64 bytes swizzled in 64, and of 256 bytes that are
// not swizzled, at any place of a matrix and of shared memory. One block for each place; the boxes as they lie in
// shared memory, and matrices into which each was stored again elsewhere.
#include "ptx.cuh"

struct ProbeArguments {
  TensorMap narrow_source, wide_source, narrow_target, wide_target;
  const u8* matrix;
  const s32* places;  // [blocks][4]: column and row to load from, column and row to store to
  u8* narrow_boxes;   // [blocks][512]
  u8* wide_boxes;     // [blocks][2048]
  u8* narrow_stored;
  u8* wide_stored;
};

extern "C" __global__ void probe_swizzles(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  u8* const narrow = shared + 512 * (1 + blockIdx.x % 2);
  u8* const wide = shared + 1536 + 128 * (blockIdx.x % 3);
  u64* const full = reinterpret_cast<u64*>(shared + 4096);
  const s32* const place = args.places + 4 * blockIdx.x;
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, 512 + 2048);
    tma_load(narrow, &args.narrow_source, full, place[0], place[1]);
    tma_load(wide, &args.wide_source, full, place[0], place[1]);
  }
  __syncthreads();
  mbarrier_wait(full, 0);
  for (s32 i = threadIdx.x; i < 512; i += 32) args.narrow_boxes[512 * blockIdx.x + i] = narrow[i];
  for (s32 i = threadIdx.x; i < 2048; i += 32) args.wide_boxes[2048 * blockIdx.x + i] = wide[i];
  for (s32 i = threadIdx.x; i < 512; i += 32) narrow[i] = narrow[i] + 1;
  for (s32 i = threadIdx.x; i < 2048; i += 32) wide[i] = wide[i] + 2;
  fence_async();
  __syncthreads();
  if (threadIdx.x == 0) {
    tma_store(&args.narrow_target, narrow, place[2], place[3]);
    tma_store(&args.wide_target, wide, place[2], place[3]);
    tma_store_commit();
    tma_store_wait_read<0>();
  }
}
