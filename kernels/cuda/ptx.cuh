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
// sum loses what is small: promote it into FP32 every 128 of K (sm_89; on sm_90 it becomes FP16 HMMA: not used there).
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

// c [16, 8] += a [16, 16] b [8, 16]^T of 16-bit floats, sums in FP32: INT4 weights are unpacked to the type of what
// they are multiplied with. The bytes of a, b and c are where mma_s8 has them: a[r] holds row g + 8 (r & 1), values 2t
// + 8 (r >> 1) and the next; b0 and b1 hold column g, values 2t and 2t + 8 and the next; the first of two is in the low
// half (sm_80).
DEVICE void mma_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE void mma_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- Products whose left operand keeps two of every four values along K (2:4) ----

// c [16, 8] += a [16, 64] b [8, 64]^T in the time of half of it, exact. a[r] holds the 32 kept values of each row as
// mma_s8's; b[r] holds column g, values 4t + 16 r .. +3 of all 64. A nibble says which two of four are kept, i0 | i1 <<
// 2 with i0 < i1: 4, 8, 9, c, d or e; what others do is undefined. Nibble q of `metadata` is of row g + 8 (lane & 1),
// values 32 (lane >> 1 & 1) + 4 q .. +3: every lane brings one word. Plain .sp is the same instruction, and ptxas
// advises against it (sm_80).
DEVICE void mma_sp_s8(s32 (&c)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata) {
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0;"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(metadata));
}

// c [16, 8] += a [16, 32] b [8, 32]^T of 16-bit floats, sums in FP32; a[r] as mma_f16's, b[r] holds column g, values 2t
// + 8 r and the next of all 32. Metadata is asked of the lanes with t >> 1 == SELECTOR, 0 or 1, only: nibble q of the
// low half is of row g, values 16 (lane & 1) + 4 q .. +3, that of the high half of row g + 8. So a word in each lane
// serves two instructions (sm_80).
template <int SELECTOR>
DEVICE void mma_sp_f16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata) {
  static_assert(SELECTOR == 0 || SELECTOR == 1, "half of the lanes at a time");
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, %13;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]),
        "r"(metadata), "n"(SELECTOR));
}

template <int SELECTOR>
DEVICE void mma_sp_bf16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata) {
  static_assert(SELECTOR == 0 || SELECTOR == 1, "half of the lanes at a time");
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, %13;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]),
        "r"(metadata), "n"(SELECTOR));
}

#if ARCH >= 890
// As mma_sp_s8 for e4m3, with sums as mma_e4m3's (sm_89; on sm_90 it becomes FP16 HMMA: not used there).
DEVICE void mma_sp_e4m3(float (&c)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata) {
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k64.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(metadata));
}
#endif

// ---- 16-bit floats, bytes ----

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

// a b + c in each half, rounded once, ties to even; subnormal numbers are kept. Takes offset and power of two off two
// unpacked nibbles at a time (sm_80).
DEVICE u32 fma_f16x2(u32 a, u32 b, u32 c) {
  u32 pair;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(pair) : "r"(a), "r"(b), "r"(c));
  return pair;
}

DEVICE u32 fma_bf16x2(u32 a, u32 b, u32 c) {
  u32 pair;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(pair) : "r"(a), "r"(b), "r"(c));
  return pair;
}

// Nibble i of `selector` says what byte i of the result is: 0-3 a byte of a, 4-7 one of b, 8 more its sign in all bits.
// __byte_perm, which has no signs, clears bit 3 of every nibble by an instruction of its own (sm_80).
DEVICE u32 permute_bytes(u32 a, u32 b, u32 selector) {
  u32 bytes;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(a), "r"(b), "r"(selector));
  return bytes;
}

#if ARCH >= 900
// ---- Hopper: asynchronous copies of tiles (TMA), barriers that count bytes, matrix instructions of a warpgroup ----

// What cuTensorMapEncodeTiled makes on the host; opaque here. Passed by value within a __grid_constant__ parameter.
struct alignas(64) TensorMap {
  u64 opaque[16];
};

DEVICE u32 shared_address(const void* shared) { return static_cast<u32>(__cvta_generic_to_shared(shared)); }

// A barrier in shared memory that completes a phase when `arrivals` have arrived and all bytes that were announced have
// landed. By one thread, before anyone uses it.
DEVICE void mbarrier_init(u64* barrier, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// Makes initialised barriers visible to the copy engine and to the cluster; a barrier of threads comes after it.
DEVICE void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrives, and announces that copies will bring `bytes` in this phase. Before those copies are started.
DEVICE void mbarrier_expect_bytes(u64* barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

DEVICE void mbarrier_arrive(u64* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Arrives at the barrier that lies at the same place in the shared memory of block `rank` of the cluster. Without
// `.release.cluster`, which costs a fence of the whole GPU: what is told is that the copy engine may overwrite what wgmma
// has read, and wgmma_wait has seen to that.
DEVICE void mbarrier_arrive_remote(u64* barrier, u32 rank) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}

// Waits until the phase of this parity has completed; parity 1 passes at once on a new barrier.
DEVICE void mbarrier_wait(u64* barrier, u32 parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again_%=;\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// The same where blocks of the cluster arrived from elsewhere: what they did before is visible after it.
DEVICE void mbarrier_wait_cluster(u64* barrier, u32 parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again_%=:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again_%=;\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// Starts a copy of the map's box at column x, row y (elements) into shared memory; swizzled as the map says. What lies
// outside the tensor becomes zeros, and counts: `barrier` always gets the bytes of a whole box. By one thread.
DEVICE void tma_load(void* shared, const TensorMap* map, u64* barrier, s32 x, s32 y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
          "r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y)
      : "memory");
}

// The same into every block of the cluster whose bit is in `ranks`: the box and its bytes arrive at the same places of
// their shared memories.
DEVICE void tma_load_multicast(void* shared, const TensorMap* map, u64* barrier, s32 x, s32 y, u16 ranks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "h"(ranks)
      : "memory");
}

// Starts a copy of a box from shared to global memory; what lies outside the tensor is dropped. By one thread, after
// everyone who wrote the box has called fence_async and met at a barrier.
DEVICE void tma_store(const TensorMap* map, const void* shared, s32 x, s32 y) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
               "r"(shared_address(shared)), "r"(x), "r"(y)
               : "memory");
}

DEVICE void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Waits until at most the N youngest groups of stores of this thread still read shared memory.
template <int N>
DEVICE void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}

// Ordinary writes to shared memory of this thread come before what the copy engine and wgmma read next. They go by
// another way to memory, so a barrier alone does not order them.
DEVICE void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- Matrix instructions of a warpgroup: 128 threads that begin at a multiple of 128 ----

// Where rows of 128 bytes begin that lie 128 apart, swizzled in 128 bytes as TMA writes them: start / 16 in bits 0-13,
// distance of 8 rows / 16 in bits 32-45, mode 1 in bits 62-63. The pattern repeats every 1024 bytes: tiles begin there.
// 32 bytes further along K: + 2.
DEVICE u64 wgmma_descriptor(const void* shared) {
  return static_cast<u64>((shared_address(shared) & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

// The same of rows of 64 bytes that lie 64 apart, swizzled in 64 bytes: mode 2. The pattern repeats every 512 bytes:
// tiles begin there. Kept values of a sparse operand take half the room of what they are multiplied with.
DEVICE u64 wgmma_descriptor_64(const void* shared) {
  return static_cast<u64>((shared_address(shared) & 0x3ffff) >> 4) | 1ull << 16 | 32ull << 32 | 2ull << 62;
}

// Before the first wgmma, and again after registers that one reads or writes were touched otherwise.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most the N youngest groups are under way. Until then their sums and operands are nobody else's.
template <int N>
DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// Gives registers of this warpgroup back, or takes them; R is a multiple of 8. By all its warps.
template <int R>
DEVICE void registers_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(R));
}

template <int R>
DEVICE void registers_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(R));
}

// A barrier of `threads` of the block, not all; numbers 1 to 15, 0 is __syncthreads.
DEVICE void barrier_sync(u32 number, u32 threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// Four 8 x 16-byte matrices: the reverse of ldmatrix_x4.
DEVICE void stmatrix_x4(void* row, const u32 (&fragment)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
               "r"(fragment[0]), "r"(fragment[1]), "r"(fragment[2]), "r"(fragment[3])
               : "memory");
}

// ---- Clusters: blocks that run at one time and reach each other's shared memory ----

DEVICE u32 cluster_rank() {
  u32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// A barrier of all threads of the cluster. Before the first use of another block's memory, and before any block ends
// that others still reach.
DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
#endif
