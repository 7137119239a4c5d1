// Two of three warps meet. WHAT: 0 for more threads than come, 1 for fewer, 2 for different numbers of threads, 3 for a
// part of a warp, 4 at barrier 0, 5 at different barriers, 6 a part of a warp comes.
#include "hopper.cuh"

CASE(named_barrier) {
  SHARED_MEMORY(memory);
  s32* const words = reinterpret_cast<s32*>(memory);
  const u32 i = threadIdx.x;
  const bool wrong = !CORRECT;
  if (i >= 64) return;
  words[i] = i;
  u32 threads = 64, number = 1;
  if (wrong && WHAT == 0) threads = 96;
  if (wrong && WHAT == 1) threads = 32;
  if (wrong && WHAT == 2 && i >= 32) threads = 96;
  if (wrong && WHAT == 3) threads = 48;
  if (wrong && WHAT == 4) number = 0;
  if (wrong && WHAT == 5 && i >= 32) number = 2;
  if (!wrong || WHAT != 6 || i != 3) barrier_sync(number, threads);
  args.out[i] = words[63 - i];
}
