// stmatrix_x4: where each register of each lane goes, for any rows. One block for each set; what it leaves in shared
// memory.
#include "ptx.cuh"

struct ProbeArguments {
  const u32* fragments;  // [sets][32 lanes][4]
  const s32* rows;       // [sets][32]: byte offsets, all different
  u32* image;            // [sets][512]
};

extern "C" __global__ void probe_stmatrix(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  u32* const words = reinterpret_cast<u32*>(shared);
  const s32 lane = threadIdx.x, at = blockIdx.x * 32 + lane;
  for (s32 i = lane; i < 512; i += 32) words[i] = 0;
  __syncthreads();
  u32 fragment[4];
  for (s32 r = 0; r < 4; r++) fragment[r] = args.fragments[4 * at + r];
  stmatrix_x4(shared + args.rows[at], fragment);
  __syncthreads();
  for (s32 i = lane; i < 512; i += 32) args.image[blockIdx.x * 512 + i] = words[i];
}
