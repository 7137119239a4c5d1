// The host's twin of the wrappers that kernels/runtime/wgmma.py makes; any N here. Both operands in shared memory.
#pragma once
#include "ptx.cuh"

template <int N>
DEVICE void wgmma_e4m3(float (&sums)[N / 2], u64 a, u64 b, bool add, EMULATOR_CALLER) {
  ::emulator::wgmma("wgmma_e4m3", ::emulator::Kind::e4m3, sums, N, a, b, add, file, line);
}

template <int N>
DEVICE void wgmma_s8(s32 (&sums)[N / 2], u64 a, u64 b, bool add, EMULATOR_CALLER) {
  ::emulator::wgmma("wgmma_s8", ::emulator::Kind::s8, sums, N, a, b, add, file, line);
}
