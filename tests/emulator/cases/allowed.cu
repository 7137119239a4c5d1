// What looks dangerous and is not: tables, local arrays, structs by value, bytes of one word by several threads, many
// readers of one word, and the own value after the own write.
#include "case.cuh"

struct Pair {
  s32 first, second;
};

__device__ Pair swapped(Pair pair) { return {pair.second, pair.first}; }

CASE(allowed) {
  static const s32 table[4] = {10, 20, 30, 40};
  SHARED_MEMORY(memory);
  s32* shared = reinterpret_cast<s32*>(memory);
  const u32 i = threadIdx.x;
  memory[i] = static_cast<u8>(i);
  const s32 own = memory[i];
  __syncthreads();
  s32 local[8];
  for (u32 each = 0; each < 8; each++) local[each] = shared[each] & 0xff;
  Pair pair = {local[i % 8], table[i % 4]};
  pair = swapped(pair);
  memcpy(local, &pair, sizeof pair);
  args.out[i] = own;
  args.out[i] += local[0] + local[1];
}
