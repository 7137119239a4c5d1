// The host's twin of kernels/cuda/ptx.cuh: the same names, the same architectures, bodies that run on a CPU.
//
// What each one means is said there. The work is in runtime/, one file for each family of instructions.
#pragma once
#include "runtime/async_copy.h"
#include "runtime/matrix.h"
#include "runtime/numbers.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define DEVICE __device__ __forceinline__

#define SHARED_MEMORY(name) u8* const name = ::emulator::shared_memory()

// ---- Copies from global to shared memory (sm_80) ----

DEVICE void cp_async_16(void* shared, const void* global, u32 bytes) {
  ::emulator::cp_async_16(shared, global, bytes);
}

DEVICE void cp_async_commit() { ::emulator::cp_async_commit(); }

template <int N>
DEVICE void cp_async_wait() {
  ::emulator::cp_async_wait(N);
}

// ---- Matrix fragments (sm_75) ----

DEVICE void ldmatrix_x4(u32 (&fragment)[4], const void* row, EMULATOR_CALLER) {
  ::emulator::ldmatrix_x4(fragment, row, file, line);
}

DEVICE void mma_s8(s32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, EMULATOR_CALLER) {
  ::emulator::mma_s8(c, a, b0, b1, file, line);
}

#if ARCH >= 890
DEVICE void mma_e4m3(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, EMULATOR_CALLER) {
  ::emulator::mma_e4m3(c, a, b0, b1, file, line);
}

DEVICE u16 e4m3x2(float low, float high) {
  return static_cast<u16>(::emulator::to_e4m3(low) | ::emulator::to_e4m3(high) << 8);
}
#endif

// ---- 16-bit floats ----

DEVICE u32 bf16x2(float low, float high) {
  return ::emulator::to_bf16(low) | static_cast<u32>(::emulator::to_bf16(high)) << 16;
}

DEVICE u32 f16x2(float low, float high) {
  return ::emulator::to_f16(low) | static_cast<u32>(::emulator::to_f16(high)) << 16;
}

DEVICE float f16_to_float(u16 bits) { return ::emulator::f16_value(bits); }
