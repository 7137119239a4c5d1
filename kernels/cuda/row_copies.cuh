// Rows of a matrix on their way from global to shared memory by cp.async: what the matmuls of mma.sync multiply.
#pragma once
#include "ptx.cuh"

// Byte of chunk q of a row in shared memory, in units of 16 bytes, so that neither the copies nor ldmatrix meet a bank
// twice: rows of 64 bytes repeat every second row, longer ones every row.
template <s32 ROW_BYTES>
DEVICE s32 swizzled(s32 row, s32 chunk) {
  static_assert(ROW_BYTES == 64 || ROW_BYTES % 128 == 0, "the swizzle is made for rows of 64 bytes or whole 128");
  const s32 mixed = ROW_BYTES == 64 ? chunk ^ (row >> 1 & 3) : chunk ^ (row & 7);
  return row * ROW_BYTES + mixed * 16;
}

// The share of one of THREADS threads in copying ROWS rows, ROW_BYTES of K at a time: the same column of every STEP-th
// row, so that one address and a distance are all it has to remember. Rows and bytes that do not exist become zeros.
template <s32 ROWS, s32 ROW_BYTES, s32 THREADS>
struct RowCopier {
  static constexpr s32 CHUNKS_K = ROW_BYTES / 16, STEP = THREADS / CHUNKS_K;
  static_assert(THREADS % CHUNKS_K == 0, "a thread copies one column");
  const u8* source;    // of the first row
  const u8* anywhere;  // a valid address for copies of no bytes
  s64 stride;
  s32 row, column;  // within the tile; the column in bytes
  s32 rows, k;      // rows of the tile that exist, bytes of a row

  DEVICE RowCopier(const u8* base, s64 stride, s32 first_row, s32 rows, s32 bytes_k)
      : anywhere(base), stride(stride), rows(rows - first_row), k(bytes_k) {
    row = threadIdx.x / CHUNKS_K, column = threadIdx.x % CHUNKS_K * 16;
    source = base + static_cast<s64>(first_row + row) * stride + column;
  }

  DEVICE void copy(u8* stage, s32 step) const {
#pragma unroll
    for (s32 i = 0; i < (ROWS + STEP - 1) / STEP; i++) {
      const s32 own = row + i * STEP;
      if (ROWS % STEP != 0 && own >= ROWS) break;
      const bool exists = own < rows && step * ROW_BYTES + column < k;
      const u8* from = source + i * STEP * stride + step * ROW_BYTES;
      cp_async_16(stage + swizzled<ROW_BYTES>(own, column / 16), exists ? from : anywhere, exists ? 16 : 0);
    }
  }
};
