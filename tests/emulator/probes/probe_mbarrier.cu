// mbarrier_*, barrier_sync, registers_*: two warpgroups hand numbers to each other. What every thread received.
#include "ptx.cuh"

struct ProbeArguments {
  const s32* given;  // [256]
  s32* received;     // [4 rounds][256]
};

extern "C" __global__ __launch_bounds__(256) void probe_mbarrier(const __grid_constant__ ProbeArguments args) {
  SHARED_MEMORY(shared);
  s32* const slots = reinterpret_cast<s32*>(shared);  // [2][128]
  u64* const full = reinterpret_cast<u64*>(shared + 1024);
  u64* const empty = full + 2;
  const s32 i = threadIdx.x % 128;
  if (threadIdx.x == 0) {
    for (s32 slot = 0; slot < 2; slot++) {
      mbarrier_init(full + slot, 128);
      mbarrier_init(empty + slot, 4);
    }
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    registers_decrease<40>();
    for (s32 round = 0; round < 4; round++) {
      const s32 slot = round % 2;
      mbarrier_wait(empty + slot, round / 2 % 2 ^ 1);
      slots[128 * slot + i] = args.given[threadIdx.x] + 1000 * round;
      mbarrier_arrive(full + slot);
      args.received[256 * round + threadIdx.x] = args.given[threadIdx.x] + round;
    }
  } else {
    registers_increase<64>();
    for (s32 round = 0; round < 4; round++) {
      const s32 slot = round % 2;
      mbarrier_wait(full + slot, round / 2 % 2);
      args.received[256 * round + threadIdx.x] = slots[128 * slot + 127 - i] + args.given[threadIdx.x];
      barrier_sync(1 + round, 128);
      if (i % 32 == 0) mbarrier_arrive(empty + slot);
    }
  }
}
