// One wgmma, or two, of an input that is both operands. WHAT: 0 no wait at the end, 1 no commit, 2 no wgmma_fence,
// 3 none after a wait, 4 operands of one thread differ, 5 it adds in one warp only, 6 another swizzle, 7 other
// distances, 8 a start in the middle of the pattern, 9 beyond shared memory, 10 one warp is missing, 11 a place of one
// warp's own, 12 operands written by threads without a fence, 13 a copy over operands, 14 a wait that leaves the group
// whose operands are written over, 15 operands not waited for, 16 the same registers in two shapes, 17 one warp leaves
// out a commit.
#include "hopper.cuh"
#include "wgmma.cuh"

CASE(wgmma_use) {
  SHARED_MEMORY(memory);
  u64* const full = BARRIERS(memory);
  const u32 i = threadIdx.x;
  const bool wrong = !CORRECT;
  if (i == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_expect_bytes(full, 2 * BOX);
    tma_load(memory, &args.in_map, full, 0, 0);
    tma_load(memory + BOX, &args.in_map, full, 0, 0);
  }
  __syncthreads();
  if (!wrong || WHAT != 15) mbarrier_wait(full, 0);
  if (WHAT == 12) {
    memory[4 * i] = 1;
    if (CORRECT) fence_async();
    __syncthreads();
  }
  u64 a = wgmma_descriptor(memory), b = wgmma_descriptor(memory + BOX);
  if (wrong && WHAT == 4 && i == 77) a += 2;
  if (wrong && WHAT == 6) a |= 3ull << 62;
  if (wrong && WHAT == 7) b += 64ull << 32;
  if (wrong && WHAT == 8) b += 8;
  if (wrong && WHAT == 9) b += (2 * BOX + 1024) / 16;
  s32 sums[32] = {};
  if (wrong && WHAT == 10 && i >= 96) return;
  if (!wrong || WHAT != 2) wgmma_fence();
  if (wrong && WHAT == 11 && i / 32 == 2) {
    wgmma_s8<64>(sums, a, b, true);
  } else {
    wgmma_s8<64>(sums, a, b, !wrong || WHAT != 5 || i < 96);
  }
  if (!wrong || (WHAT != 1 && (WHAT != 17 || i >= 32))) wgmma_commit();
  if (WHAT == 3) wgmma_wait<0>();
  if (CORRECT) wgmma_fence();
  if (WHAT == 16 && wrong) {
    s32(&half)[16] = *reinterpret_cast<s32(*)[16]>(sums + 8);
    wgmma_s8<32>(half, a, b, true);
  }
  wgmma_s8<64>(sums, a + 2, b + 2, true);
  if (!wrong || WHAT != 1) wgmma_commit();
  if (WHAT == 13 || WHAT == 14) {
    if (CORRECT) wgmma_wait<0>();
    if (wrong && WHAT == 14) wgmma_wait<1>();
    __syncthreads();
    if (i == 0 && WHAT == 13) {
      mbarrier_expect_bytes(full, BOX);
      tma_load(memory, &args.in_map, full, 0, 0);
    }
    if (WHAT == 13) mbarrier_wait(full, 1);
    if (i == 0 && WHAT == 14) memory[40] = 3;
  }
  if (!wrong || WHAT != 0) wgmma_wait<0>();
  for (s32 r = 0; r < 32 && i < 64; r++) args.out[32 * i + r] = sums[r];
}
