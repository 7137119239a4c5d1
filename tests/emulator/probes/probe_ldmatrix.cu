// ldmatrix_x4: which bytes of shared memory each register of each lane receives, for any rows. One block for each set.
#include "ptx.cuh"

struct ProbeArguments {
  const u32* image;  // [512]
  const s32* rows;   // [sets][32]: byte offsets
  u32* fragments;    // [sets][32 lanes][4]
};

extern "C" __global__ void probe_ldmatrix(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  const s32 lane = threadIdx.x, at = blockIdx.x * 32 + lane;
  for (s32 i = lane; i < 512; i += 32) reinterpret_cast<u32*>(shared)[i] = args.image[i];
  __syncthreads();
  u32 fragment[4];
  ldmatrix_x4(fragment, shared + args.rows[at]);
  for (s32 r = 0; r < 4; r++) args.fragments[4 * at + r] = fragment[r];
}
