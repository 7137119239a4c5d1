// cp_async_16, cp_async_commit, cp_async_wait: what 32 threads' copies of 0 to 16 bytes leave in shared memory.
#include "ptx.cuh"

struct ProbeArguments {
  const u8* source;  // [64][16]
  const s32* bytes;  // [64]
  u8* left;          // [64][16]
};

extern "C" __global__ void probe_cp_async(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  const s32 i = threadIdx.x;
  for (s32 group = 0; group < 2; group++) {
    const s32 row = group * 32 + i;
    cp_async_16(shared + 16 * row, args.source + 16 * row, args.bytes[row]);
    cp_async_commit();
  }
  cp_async_wait<1>();
  __syncthreads();
  for (s32 byte = i; byte < 32 * 16; byte += 32) args.left[byte] = shared[byte];
  cp_async_wait<0>();
  __syncthreads();
  for (s32 byte = 32 * 16 + i; byte < 64 * 16; byte += 32) args.left[byte] = shared[byte];
}
