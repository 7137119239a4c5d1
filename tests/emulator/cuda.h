// The CUDA language for g++: what NVRTC knows without an include, as far as the kernels use it.
//
// A trampoline includes this before the kernel's file. Functions that must not be inline are in runtime/.
#pragma once

// Before any header declares them: also the calls that the compiler makes by itself go to the instrumented ones.
extern "C" {
void* memcpy(void* to, const void* from, decltype(sizeof 0) bytes) noexcept __asm__("emulator_memcpy");
void* memmove(void* to, const void* from, decltype(sizeof 0) bytes) noexcept __asm__("emulator_memmove");
void* memset(void* to, int value, decltype(sizeof 0) bytes) noexcept __asm__("emulator_memset");
}

#include <math.h>

#include "runtime/thread.h"
#include "vectors.h"

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define __align__(bytes) alignas(bytes)

// ---- Where a thread is ----

#define threadIdx (::emulator::thread_index())
#define blockIdx (::emulator::block_index())
#define blockDim (::emulator::block_size())
#define gridDim (::emulator::grid_size())

// ---- Waiting for others ----

// As last parameters: the place of the call, by which lanes and threads are seen to be at the same one.
#define EMULATOR_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

__forceinline__ void __syncthreads(EMULATOR_CALLER) { ::emulator::sync_block(file, line); }
__forceinline__ void __syncwarp(unsigned mask = ~0u, EMULATOR_CALLER) { ::emulator::sync_warp(mask, file, line); }

// ---- Bits ----

namespace emulator {
template <class To, class From>
__forceinline__ To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From), "a reinterpretation of bits");
  return __builtin_bit_cast(To, value);
}
}  // namespace emulator

__forceinline__ unsigned __float_as_uint(float value) { return ::emulator::bits_as<unsigned>(value); }
__forceinline__ int __float_as_int(float value) { return ::emulator::bits_as<int>(value); }
__forceinline__ float __uint_as_float(unsigned bits) { return ::emulator::bits_as<float>(bits); }
__forceinline__ float __int_as_float(int bits) { return ::emulator::bits_as<float>(bits); }

// Bytes of two words: nibble i of the selector says which byte i is, 0-3 of the first, 4-7 of the second, 8 more for
// its sign in all bits.
namespace emulator {
__forceinline__ unsigned permuted(unsigned first, unsigned second, unsigned selector) {
  unsigned bytes = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned which = selector >> 4 * i;
    unsigned byte = (which & 4 ? second : first) >> 8 * (which & 3) & 255;
    if (which & 8) byte = byte & 128 ? 255 : 0;
    bytes |= byte << 8 * i;
  }
  return bytes;
}
}  // namespace emulator

// Without signs, as NVRTC compiles it.
__forceinline__ unsigned __byte_perm(unsigned first, unsigned second, unsigned selector) {
  return ::emulator::permuted(first, second, selector & 0x7777);
}

// ---- Memory ----

// That nobody writes there while the kernel runs is not looked at.
template <class T>
__forceinline__ T __ldg(const T* address) {
  return *address;
}

// ---- Shuffles ----

// The lanes fall into segments of `width`. A lane whose source is out of reach receives its own value: for `xor` and
// `down` one beyond the segment, for `up` one before it. `xor` may reach into an earlier segment.
namespace emulator {
__forceinline__ int segment_start(int width) { return lane_index() & ~(width - 1); }
__forceinline__ int at_most(int source, int last) { return source <= last ? source : lane_index(); }

template <class T>
__forceinline__ T exchange_bits(const char* name, unsigned mask, T value, int source, const char* file, int line) {
  return bits_as<T>(exchange(name, mask, bits_as<unsigned>(value), source, file, line));
}
}  // namespace emulator

template <class T>
__forceinline__ T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATOR_CALLER) {
  const int lane = ::emulator::segment_start(width) + (source & (width - 1));
  return ::emulator::exchange_bits("__shfl_sync", mask, value, lane, file, line);
}
template <class T>
__forceinline__ T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATOR_CALLER) {
  const int last = ::emulator::segment_start(width) + width - 1;
  const int lane = ::emulator::at_most(::emulator::lane_index() ^ bits, last);
  return ::emulator::exchange_bits("__shfl_xor_sync", mask, value, lane, file, line);
}
template <class T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, EMULATOR_CALLER) {
  const int last = ::emulator::segment_start(width) + width - 1;
  const int lane = ::emulator::at_most(::emulator::lane_index() + static_cast<int>(by), last);
  return ::emulator::exchange_bits("__shfl_down_sync", mask, value, lane, file, line);
}
template <class T>
__forceinline__ T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, EMULATOR_CALLER) {
  const int source = ::emulator::lane_index() - static_cast<int>(by);
  const int lane = source >= ::emulator::segment_start(width) ? source : ::emulator::lane_index();
  return ::emulator::exchange_bits("__shfl_up_sync", mask, value, lane, file, line);
}

// ---- Arithmetic ----

// The compiler fuses nothing (-ffp-contract=off): an operator is rounded as these are.
__forceinline__ float __fadd_rn(float a, float b) { return a + b; }
__forceinline__ float __fsub_rn(float a, float b) { return a - b; }
__forceinline__ float __fmul_rn(float a, float b) { return a * b; }
__forceinline__ float __fdiv_rn(float a, float b) { return a / b; }
__forceinline__ float __fsqrt_rn(float a) { return sqrtf(a); }
__forceinline__ float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

// To nearest, ties to even; out of range to the nearest end; NaN to 0.
__forceinline__ int __float2int_rn(float value) {
  if (value != value) return 0;
  if (value >= 2147483648.0f) return 2147483647;
  if (value <= -2147483648.0f) return -2147483647 - 1;
  return static_cast<int>(rintf(value));
}
__forceinline__ float __int2float_rn(int value) { return static_cast<float>(value); }
__forceinline__ float __uint2float_rn(unsigned value) { return static_cast<float>(value); }

#define EMULATOR_MIN_MAX(type)                                              \
  __forceinline__ constexpr type min(type a, type b) { return b < a ? b : a; } \
  __forceinline__ constexpr type max(type a, type b) { return a < b ? b : a; }
EMULATOR_MIN_MAX(int)
EMULATOR_MIN_MAX(unsigned)
EMULATOR_MIN_MAX(long)
EMULATOR_MIN_MAX(unsigned long)
EMULATOR_MIN_MAX(long long)
EMULATOR_MIN_MAX(unsigned long long)
#undef EMULATOR_MIN_MAX
// Of NaN and a number, the number.
__forceinline__ float min(float a, float b) { return fminf(a, b); }
__forceinline__ float max(float a, float b) { return fmaxf(a, b); }
