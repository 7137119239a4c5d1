// A case is a kernel with one mistake and, where CORRECT, the same kernel without it. WHAT chooses
// among the mistakes of a file.
#pragma once
#include "ptx.cuh"

struct Arguments {
#if ARCH >= 900
  TensorMap in_map, out_map;
#endif
  const s32* in;
  s32* out;
  s32 n;  // elements of each
  s32 correct, what;
};

#define CORRECT args.correct
#define WHAT args.what

#define CASE(name) extern "C" __global__ void name(const __grid_constant__ Arguments args)
