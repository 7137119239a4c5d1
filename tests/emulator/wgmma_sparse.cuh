// The host's twin of the wrappers that kernels/runtime/wgmma.py makes; any N here. The left operand keeps half of
// its values.
#pragma once
#include "ptx.cuh"

template <int N>
DEVICE void wgmma_sp_e4m3(float (&sums)[N / 2], u64 a, u64 b, u32 metadata, bool add, EMULATOR_CALLER) {
  ::emulator::wgmma_sparse("wgmma_sp_e4m3", ::emulator::Kind::e4m3, sums, N, a, b, metadata, add, file, line);
}

template <int N>
DEVICE void wgmma_sp_s8(s32 (&sums)[N / 2], u64 a, u64 b, u32 metadata, bool add, EMULATOR_CALLER) {
  ::emulator::wgmma_sparse("wgmma_sp_s8", ::emulator::Kind::s8, sums, N, a, b, metadata, add, file, line);
}

template <int N>
DEVICE void wgmma_sp_f16(float (&sums)[N / 2], u64 a, u64 b, u32 metadata, bool add, EMULATOR_CALLER) {
  ::emulator::wgmma_sparse("wgmma_sp_f16", ::emulator::Kind::f16, sums, N, a, b, metadata, add, file, line);
}

template <int N>
DEVICE void wgmma_sp_bf16(float (&sums)[N / 2], u64 a, u64 b, u32 metadata, bool add, EMULATOR_CALLER) {
  ::emulator::wgmma_sparse("wgmma_sp_bf16", ::emulator::Kind::bf16, sums, N, a, b, metadata, add, file, line);
}
