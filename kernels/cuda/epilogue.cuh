// What happens to the accumulator of every matmul, in this order: scales, bias, activation, residual + gate * out, and
// the last rounding. kernels/reference.py `finish` defines it; compiled without fused multiply-adds, each step rounds
// as there.
#pragma once
#include "rows.cuh"

enum Activation : s32 { NONE = 0, GELU = 1, GELU_TANH = 2, SILU = 3 };

struct Epilogue {
  Rows b_scale;  // fp32, for each column; absent where it is one
  Rows bias, residual, gate;
  const float* a_scale;      // one, or one a row; null where it was applied while accumulating
  const float* one_b_scale;  // where all columns share it; null otherwise
  const float* out_scale;    // where the result is codes
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

// Eight columns of row m, from `column` on, of which `count` exist: what was accumulated becomes what is stored.
// SCALED: b's scales were applied while accumulating, and a's too where there is one for each block of K.
template <s32 DTYPE, s32 ACTIVATION, bool SCALED>
DEVICE void finish_8(float (&x)[8], const Epilogue& epilogue, u32 m, s32 column, s32 count) {
  float other[8];
  if (!SCALED || epilogue.a_scale) {
    const float scale = epilogue.a_scale[m * epilogue.a_scale_stride];
#pragma unroll
    for (s32 i = 0; i < 8; i++) x[i] = x[i] * scale;
  }
  if (!SCALED && epilogue.one_b_scale) {
    const float scale = *epilogue.one_b_scale;
#pragma unroll
    for (s32 i = 0; i < 8; i++) x[i] = x[i] * scale;
  } else if (!SCALED) {
    load_row_8(other, epilogue.b_scale, 0, column, count);
#pragma unroll
    for (s32 i = 0; i < 8; i++) x[i] = x[i] * other[i];
  }
  if (epilogue.bias.base) {
    load_row_8(other, epilogue.bias, 0, column, count);
#pragma unroll
    for (s32 i = 0; i < 8; i++) x[i] = x[i] + other[i];
  }
#pragma unroll
  for (s32 i = 0; i < 8; i++) x[i] = activate<ACTIVATION>(x[i]);
  if (epilogue.gate.base) {
    load_row_8(other, epilogue.gate, row_offset(epilogue.gate, m), column, count);
#pragma unroll
    for (s32 i = 0; i < 8; i++) x[i] = other[i] * x[i];
  }
  if (epilogue.residual.base) {
    load_row_8(other, epilogue.residual, row_offset(epilogue.residual, m), column, count);
#pragma unroll
    for (s32 i = 0; i < 8; i++) x[i] = other[i] + x[i];
  }
  if (DTYPE == S8 || DTYPE == E4M3) {
    const float scale = *epilogue.out_scale;
#pragma unroll
    for (s32 i = 0; i < 8; i++) x[i] = x[i] / scale;
  }
}
