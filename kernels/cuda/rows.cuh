// An operand with one row for each row m of a matmul or a norm, or fewer that repeat.
#pragma once
#include "numbers.cuh"

// m counts through three dimensions, as [outer, middle, inner] of the tensor it came from. A dimension that is broadcast
// has stride 0, so a gate for each sample is read where it lies and never expanded. Strides in elements.
struct Rows {
  const void* base;  // null where the operand is absent
  s64 outer_stride, middle_stride, inner_stride;
  s32 middle, inner;  // sizes
  s32 dtype;
  s32 vectors;  // does every row begin at a multiple of 16 bytes?
};

DEVICE s64 row_offset(const Rows& rows, u32 m) {
  const u32 inner = m % rows.inner, rest = m / rows.inner;
  return rest / rows.middle * rows.outer_stride + rest % rows.middle * rows.middle_stride + inner * rows.inner_stride;
}

// Elements column .. column + 7 of the row at `offset`, zeros from `count` on. `column` is a multiple of 8.
DEVICE void load_row_8(float (&values)[8], const Rows& rows, s64 offset, s32 column, s32 count) {
  if (rows.vectors && count >= 8) return load_8(values, rows.base, rows.dtype, offset + column);
#pragma unroll
  for (s32 i = 0; i < 8; i++) values[i] = i < count ? load(rows.base, rows.dtype, offset + column + i) : 0.0f;
}
