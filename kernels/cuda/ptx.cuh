// Every PTX instruction that a kernel uses, in a thin wrapper that says why it is there.
//
// The kernels see only these names, never `asm`. tests/emulator/ptx.cuh defines the same names for a CPU, so one source
// runs on both; tests/emulator/probes calls each wrapper, and its outputs on a real GPU are kept as golden vectors.
// NVRTC brings the CUDA language (threadIdx, __syncthreads, __shfl_xor_sync, uint4, ...) without an include.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define DEVICE __device__ __forceinline__

// All shared memory is dynamic, so that its size is the host's to say; aligned for any later TMA swizzle.
#define SHARED_MEMORY(name) extern __shared__ __align__(1024) u8 name[]

// ---- Copies from global to shared memory that do not pass through registers (sm_80) ----

// 16 bytes; the last 16 - `bytes` of them become zeros. With bytes = 0 nothing is read: a tile's ragged edge needs no
// branch. L2::128B asks for the whole line, which the next step of K will want. Both addresses: multiples of 16.
DEVICE void cp_async_16(void* shared, const void* global, u32 bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"((u32)__cvta_generic_to_shared(shared)),
               "l"(global), "r"(bytes));
}

// Closes a group: everything this thread started since the last one.
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most the N youngest groups of this thread are under way. Other threads see the data after a barrier.
template <int N>
DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// ---- Matrix fragments (sm_75) ----

// Four 8 x 16-byte matrices: lane l gives the address of row l % 8 of matrix l / 8, and receives bytes
// 4 (l % 4) .. +3 of row l / 4 of each. Addresses: shared, multiples of 16.
DEVICE void ldmatrix_x4(u32 (&fragment)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"((u32)__cvta_generic_to_shared(row))
               : "memory");
}

// c [16, 8] += a [16, 32] b [8, 32]^T, exact. With g = lane / 4 and t = lane % 4, a[r] holds row g + 8 (r & 1),
// bytes 4t + 16 (r >> 1) .. +3; b0 and b1 hold column g, bytes 4t and 4t + 16; c[r] is row g + 8 (r >> 1),
// column 2t + (r & 1). No .satfinite: the host refuses a K that could overflow (sm_80).
DEVICE void mma_s8(s32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#if ARCH >= 890
// The same shape for e4m3. The hardware aligns the 33 addends to the largest and keeps about 14 bits of each, so a long
// sum loses what is small: promote it into FP32 every 128 of K (sm_89; on sm_90 this becomes FP16 HMMA: not used there).
DEVICE void mma_e4m3(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two floats to e4m3, ties to even, saturating at 448; `low` lands in the low byte (sm_89).
DEVICE u16 e4m3x2(float low, float high) {
  u16 codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
}
#endif

// ---- 16-bit floats ----

// Two floats to bf16, ties to even; `low` lands in the low half. The PTX order is (high, low) (sm_80).
DEVICE u32 bf16x2(float low, float high) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// Two floats to fp16, ties to even, overflow to infinity as torch's cast (sm_80).
DEVICE u32 f16x2(float low, float high) {
  u32 pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

DEVICE float f16_to_float(u16 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
