// tma_load, tma_store and what belongs to them: boxes of 8 rows of 128 bytes at any place of a matrix. One block for
// each place; the boxes as they lie in shared memory, and a matrix into which each was stored again elsewhere.
#include "ptx.cuh"

struct ProbeArguments {
  TensorMap source, target;
  const u8* matrix;
  const s32* places;  // [blocks][4]: column and row to load from, column and row to store to
  u8* boxes;          // [blocks][1024]
  u8* stored;
};

extern "C" __global__ void probe_tma(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  u64* const full = reinterpret_cast<u64*>(shared + 1024);
  const s32* const place = args.places + 4 * blockIdx.x;
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, 1024);
    tma_load(shared, &args.source, full, place[0], place[1]);
  }
  __syncthreads();
  mbarrier_wait(full, 0);
  for (s32 i = threadIdx.x; i < 1024; i += 32) args.boxes[1024 * blockIdx.x + i] = shared[i];
  for (s32 i = threadIdx.x; i < 1024; i += 32) shared[i] = shared[i] + 1;
  fence_async();
  __syncthreads();
  if (threadIdx.x == 0) {
    tma_store(&args.target, shared, place[2], place[3]);
    tma_store_commit();
    tma_store_wait_read<0>();
  }
}
