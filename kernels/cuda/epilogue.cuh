// What happens to the accumulator of every matmul, in this order: scales, bias, activation, residual + gate * out, and
// the last rounding. kernels/reference.py `finish` defines it; compiled without fused multiply-adds, each step rounds
// as there.
#pragma once
#include "rows.cuh"

// What there is of the epilogue, as bits of the macro PARTS: code for what is absent would be most of a kernel.
enum Part : s32 { BIAS = 1, GATE = 2, RESIDUAL = 4, ONE_B_SCALE = 8 };

// Scales by block of K, the macro BLOCK_SCALES: of b, or of both operands, are applied while accumulating.
enum Blocks : s32 { NO_BLOCKS = 0, BLOCKS_OF_B = 1, BLOCKS_OF_BOTH = 2 };

enum Activation : s32 { NONE = 0, GELU = 1, GELU_TANH = 2, SILU = 3 };

struct Epilogue {
  Rows b_scale;  // fp32: one for each column, or one
  Rows bias, residual, gate;
  const float* a_scale;    // one, or one a row
  const float* out_scale;  // where the result is codes
  s64 a_scale_stride;        // from one row's to the next, 0 where all share it
};

// A template, because the four together would be most of a kernel's code.
template <s32 ACTIVATION>
DEVICE float activate(float x) {
  if constexpr (ACTIVATION == GELU) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
  } else if constexpr (ACTIVATION == GELU_TANH) {
    const float inner = 0.79788456080286536f * (x + 0.044715f * (x * x * x));
    return 0.5f * x * (1.0f + tanhf(inner));
  } else if constexpr (ACTIVATION == SILU) {
    return x / (1.0f + expf(-x));
  } else {
    return x;
  }
}

// What the columns of one row of the result share.
struct ResultRow {
  float a_scale;
  s64 residual, gate;  // offsets of their rows
};

DEVICE ResultRow result_row(const Epilogue& epilogue, u32 m) {
  ResultRow row = {1.0f, 0, 0};
  if (BLOCK_SCALES != BLOCKS_OF_BOTH) row.a_scale = epilogue.a_scale[m * epilogue.a_scale_stride];
  if (PARTS & RESIDUAL) row.residual = row_offset(epilogue.residual, m);
  if (PARTS & GATE) row.gate = row_offset(epilogue.gate, m);
  return row;
}

// WIDTH columns of a row, from `column` on, of which `count` exist: what was accumulated becomes what is stored.
//
// Macros: OUT (a Dtype), ACTIVATE (an Activation), PARTS, BLOCK_SCALES.
template <s32 WIDTH>
DEVICE void finish(float (&x)[WIDTH], const Epilogue& epilogue, const ResultRow& row, s32 column, s32 count) {
  float other[WIDTH];
  if constexpr (BLOCK_SCALES != BLOCKS_OF_BOTH) {
#pragma unroll
    for (s32 i = 0; i < WIDTH; i++) x[i] = x[i] * row.a_scale;
  }
  if constexpr (BLOCK_SCALES == NO_BLOCKS) {
    if constexpr (PARTS & ONE_B_SCALE) {
#pragma unroll
      for (s32 i = 0; i < WIDTH; i++) other[i] = *static_cast<const float*>(epilogue.b_scale.base);
    } else {
      load_row(other, epilogue.b_scale, 0, column, count);
    }
#pragma unroll
    for (s32 i = 0; i < WIDTH; i++) x[i] = x[i] * other[i];
  }
  if constexpr (PARTS & BIAS) {
    load_row(other, epilogue.bias, 0, column, count);
#pragma unroll
    for (s32 i = 0; i < WIDTH; i++) x[i] = x[i] + other[i];
  }
#pragma unroll
  for (s32 i = 0; i < WIDTH; i++) x[i] = activate<ACTIVATE>(x[i]);
  if constexpr (PARTS & GATE) {
    load_row(other, epilogue.gate, row.gate, column, count);
#pragma unroll
    for (s32 i = 0; i < WIDTH; i++) x[i] = other[i] * x[i];
  }
  if constexpr (PARTS & RESIDUAL) {
    load_row(other, epilogue.residual, row.residual, column, count);
#pragma unroll
    for (s32 i = 0; i < WIDTH; i++) x[i] = other[i] + x[i];
  }
  if constexpr (OUT == S8 || OUT == E4M3) {
    const float scale = *epilogue.out_scale;
#pragma unroll
    for (s32 i = 0; i < WIDTH; i++) x[i] = x[i] / scale;
  }
}
