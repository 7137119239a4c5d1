// The host's twin of kernels/cuda/ptx.cuh: the same names, the same architectures, bodies that run on a CPU.
//
// What each one means is said there. The work is in runtime/, one file for each family of instructions.
#pragma once
#include "runtime/async_copy.h"
#include "runtime/cluster.h"
#include "runtime/fma.h"
#include "runtime/matrix.h"
#include "runtime/mbarrier.h"
#include "runtime/mma.h"
#include "runtime/named_barrier.h"
#include "runtime/numbers.h"
#include "runtime/tma_load.h"
#include "runtime/tma_store.h"
#include "runtime/warpgroup.h"
#include "runtime/wgmma.h"

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
  ::emulator::mma("mma_s8", ::emulator::Kind::s8, c, a, b0, b1, file, line);
}

#if ARCH >= 890
DEVICE void mma_e4m3(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, EMULATOR_CALLER) {
  ::emulator::mma("mma_e4m3", ::emulator::Kind::e4m3, c, a, b0, b1, file, line);
}

DEVICE u16 e4m3x2(float low, float high) {
  return static_cast<u16>(::emulator::to_e4m3(low) | ::emulator::to_e4m3(high) << 8);
}
#endif

DEVICE void mma_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, EMULATOR_CALLER) {
  ::emulator::mma("mma_f16", ::emulator::Kind::f16, c, a, b0, b1, file, line);
}

DEVICE void mma_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, EMULATOR_CALLER) {
  ::emulator::mma("mma_bf16", ::emulator::Kind::bf16, c, a, b0, b1, file, line);
}

// ---- Products whose left operand keeps two of every four values along K (2:4) ----

DEVICE void mma_sp_s8(s32 (&c)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata, EMULATOR_CALLER) {
  ::emulator::mma_sp("mma_sp_s8", ::emulator::Kind::s8, c, a, b, metadata, 0, file, line);
}

template <int SELECTOR>
DEVICE void mma_sp_f16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata, EMULATOR_CALLER) {
  static_assert(SELECTOR == 0 || SELECTOR == 1, "half of the lanes at a time");
  ::emulator::mma_sp("mma_sp_f16", ::emulator::Kind::f16, c, a, b, metadata, SELECTOR, file, line);
}

template <int SELECTOR>
DEVICE void mma_sp_bf16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata, EMULATOR_CALLER) {
  static_assert(SELECTOR == 0 || SELECTOR == 1, "half of the lanes at a time");
  ::emulator::mma_sp("mma_sp_bf16", ::emulator::Kind::bf16, c, a, b, metadata, SELECTOR, file, line);
}

#if ARCH >= 890
DEVICE void mma_sp_e4m3(float (&c)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata, EMULATOR_CALLER) {
  ::emulator::mma_sp("mma_sp_e4m3", ::emulator::Kind::e4m3, c, a, b, metadata, 0, file, line);
}
#endif

// ---- 16-bit floats, bytes ----

DEVICE u32 bf16x2(float low, float high) {
  return ::emulator::to_bf16(low) | static_cast<u32>(::emulator::to_bf16(high)) << 16;
}

DEVICE u32 f16x2(float low, float high) {
  return ::emulator::to_f16(low) | static_cast<u32>(::emulator::to_f16(high)) << 16;
}

DEVICE float f16_to_float(u16 bits) { return ::emulator::f16_value(bits); }

DEVICE u32 fma_f16x2(u32 a, u32 b, u32 c) { return ::emulator::fma_f16x2(a, b, c); }

DEVICE u32 fma_bf16x2(u32 a, u32 b, u32 c) { return ::emulator::fma_bf16x2(a, b, c); }

DEVICE u32 permute_bytes(u32 a, u32 b, u32 selector) { return ::emulator::permuted(a, b, selector); }

#if ARCH >= 900
// ---- Hopper ----

struct alignas(64) TensorMap {
  u64 opaque[16];
};

DEVICE u32 shared_address(const void* shared) { return ::emulator::shared_address(shared); }

DEVICE void mbarrier_init(u64* barrier, u32 arrivals) { ::emulator::mbarrier_init(barrier, arrivals); }

DEVICE void mbarrier_init_fence() { ::emulator::mbarrier_init_fence(); }

DEVICE void mbarrier_expect_bytes(u64* barrier, u32 bytes) { ::emulator::mbarrier_expect_bytes(barrier, bytes); }

DEVICE void mbarrier_arrive(u64* barrier) { ::emulator::mbarrier_arrive(barrier); }

DEVICE void mbarrier_arrive_remote(u64* barrier, u32 rank) { ::emulator::mbarrier_arrive_remote(barrier, rank); }

DEVICE void mbarrier_wait(u64* barrier, u32 parity, EMULATOR_CALLER) {
  ::emulator::mbarrier_wait(barrier, parity, file, line);
}

DEVICE void mbarrier_wait_cluster(u64* barrier, u32 parity, EMULATOR_CALLER) {
  ::emulator::mbarrier_wait_cluster(barrier, parity, file, line);
}

DEVICE void tma_load(void* shared, const TensorMap* map, u64* barrier, s32 x, s32 y) {
  ::emulator::tma_load(shared, map, barrier, x, y);
}

DEVICE void tma_load_multicast(void* shared, const TensorMap* map, u64* barrier, s32 x, s32 y, u16 ranks) {
  ::emulator::tma_load_multicast(shared, map, barrier, x, y, ranks);
}

DEVICE void tma_store(const TensorMap* map, const void* shared, s32 x, s32 y) {
  ::emulator::tma_store(map, shared, x, y);
}

DEVICE void tma_store_commit() { ::emulator::tma_store_commit(); }

template <int N>
DEVICE void tma_store_wait_read() {
  ::emulator::tma_store_wait_read(N);
}

DEVICE void fence_async() { ::emulator::fence_async(); }

// ---- Matrix instructions of a warpgroup ----

DEVICE u64 wgmma_descriptor(const void* shared) {
  return static_cast<u64>((shared_address(shared) & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

DEVICE u64 wgmma_descriptor_64(const void* shared) {
  return static_cast<u64>((shared_address(shared) & 0x3ffff) >> 4) | 1ull << 16 | 32ull << 32 | 2ull << 62;
}

DEVICE void wgmma_fence(EMULATOR_CALLER) { ::emulator::wgmma_fence(file, line); }

DEVICE void wgmma_commit(EMULATOR_CALLER) { ::emulator::wgmma_commit(file, line); }

template <int N>
DEVICE void wgmma_wait(EMULATOR_CALLER) {
  ::emulator::wgmma_wait(N, file, line);
}

template <int R>
DEVICE void registers_decrease(EMULATOR_CALLER) {
  ::emulator::change_registers("registers_decrease", R, file, line);
}

template <int R>
DEVICE void registers_increase(EMULATOR_CALLER) {
  ::emulator::change_registers("registers_increase", R, file, line);
}

DEVICE void barrier_sync(u32 number, u32 threads, EMULATOR_CALLER) {
  ::emulator::barrier_sync(number, threads, file, line);
}

DEVICE void stmatrix_x4(void* row, const u32 (&fragment)[4], EMULATOR_CALLER) {
  ::emulator::stmatrix_x4(row, fragment, file, line);
}

// ---- Clusters ----

DEVICE u32 cluster_rank() { return ::emulator::cluster_rank(); }

DEVICE void cluster_sync(EMULATOR_CALLER) { ::emulator::cluster_sync(file, line); }
#endif
