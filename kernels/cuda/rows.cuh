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
};

DEVICE s64 row_offset(const Rows& rows, u32 m) {
  const u32 inner = m % rows.inner, rest = m / rows.inner;
  return rest / rows.middle * rows.outer_stride + rest % rows.middle * rows.middle_stride + inner * rows.inner_stride;
}

// Elements column .. column + WIDTH - 1 of the row at `offset`; zeros from `count` on, which is above 0. `column` is a
// multiple of WIDTH.
//
// ALIGNED, a macro: every row of every operand begins at a multiple of 16 bytes and has a multiple of 8 elements.
template <s32 WIDTH>
DEVICE void load_row(float (&values)[WIDTH], const Rows& rows, s64 offset, s32 column, s32 count) {
  if constexpr (ALIGNED) {
    load_vector(values, rows.base, rows.dtype, offset + column);
  } else {
#pragma unroll
    for (s32 i = 0; i < WIDTH; i++) values[i] = i < count ? load(rows.base, rows.dtype, offset + column + i) : 0.0f;
  }
}

// WIDTH results from `column` on, of which `count` exist.
template <s32 DTYPE, s32 WIDTH>
DEVICE void store_row(void* base, s64 offset, s32 column, s32 count, const float (&x)[WIDTH]) {
  if constexpr (ALIGNED) {
    store_vector<DTYPE>(base, offset + column, x);
  } else {
#pragma unroll
    for (s32 i = 0; i < WIDTH; i++)
      if (i < count) store<DTYPE>(base, offset + column + i, x[i]);
  }
}
