// What probes of wgmma have in common: a block makes a product of one of the widths that there are, by two
// instructions. Sums before and after are [blocks][128 threads][128], as the threads hold them.
#pragma once
#include "ptx.cuh"

template <class Sum, s32 COUNT>
DEVICE void load_sums(Sum (&sums)[COUNT], const Sum* before) {
  const s32 at = (blockIdx.x * 128 + threadIdx.x) * 128;
  for (s32 i = 0; i < COUNT; i++) sums[i] = before[at + i];
}

template <class Sum, s32 COUNT>
DEVICE void store_sums(const Sum (&sums)[COUNT], Sum* after) {
  const s32 at = (blockIdx.x * 128 + threadIdx.x) * 128;
  for (s32 i = 0; i < COUNT; i++) after[at + i] = sums[i];
}

// Every third product begins anew.
DEVICE bool adds() { return blockIdx.x % 3 != 2; }

// Calls a template of the width of this block.
#define WITH_WIDTH(CALL, ...)                                  \
  do {                                                         \
    if (blockIdx.x % 5 == 0) CALL<32>(__VA_ARGS__);            \
    if (blockIdx.x % 5 == 1) CALL<64>(__VA_ARGS__);            \
    if (blockIdx.x % 5 == 2) CALL<128>(__VA_ARGS__);           \
    if (blockIdx.x % 5 == 3) CALL<192>(__VA_ARGS__);           \
    if (blockIdx.x % 5 == 4) CALL<256>(__VA_ARGS__);           \
  } while (0)
