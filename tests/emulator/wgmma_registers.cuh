// The host's twin of the wrappers that kernels/runtime/wgmma.py makes; any N here. The left operand is in
// registers.
#pragma once
#include "ptx.cuh"

template <int N>
DEVICE void wgmma_rs_e4m3(float (&sums)[N / 2], const u32 (&a)[4], u64 b, bool add, EMULATOR_CALLER) {
  ::emulator::wgmma_registers("wgmma_rs_e4m3", ::emulator::Kind::e4m3, sums, N, a, b, add, file, line);
}

template <int N>
DEVICE void wgmma_rs_s8(s32 (&sums)[N / 2], const u32 (&a)[4], u64 b, bool add, EMULATOR_CALLER) {
  ::emulator::wgmma_registers("wgmma_rs_s8", ::emulator::Kind::s8, sums, N, a, b, add, file, line);
}

template <int N>
DEVICE void wgmma_rs_f16(float (&sums)[N / 2], const u32 (&a)[4], u64 b, bool add, EMULATOR_CALLER) {
  ::emulator::wgmma_registers("wgmma_rs_f16", ::emulator::Kind::f16, sums, N, a, b, add, file, line);
}

template <int N>
DEVICE void wgmma_rs_bf16(float (&sums)[N / 2], const u32 (&a)[4], u64 b, bool add, EMULATOR_CALLER) {
  ::emulator::wgmma_registers("wgmma_rs_bf16", ::emulator::Kind::bf16, sums, N, a, b, add, file, line);
}
