// Rows of floats to 8-bit codes and a scale each, with what a diffusion transformer puts in front: norm, modulation,
// pre_quant_scale. kernels/reference.py `quantize_rows` defines it. Each row is read once, kept in registers and written
// once: the kernel's time is that of its memory traffic.
//
// THREADS threads share a row, and a block holds ROWS rows; more than one only where a warp is enough for each.
//
// Compile-time: CODES (S8 or E4M3), NORM, ALIGNED (rows.cuh), THREADS, ROWS, CHUNKS (of 8 elements, for each thread).
#include "rows.cuh"

enum Norm : s32 { NO_NORM = 0, LAYER_NORM = 1, RMS_NORM = 2 };

struct QuantizeArguments {
  Rows x;
  Rows norm_weight, norm_bias, modulation_scale, modulation_shift, pre_quant_scale;  // absent where base is null
  const float* static_scale;  // null: find one for each row
  u8* codes;                  // [M, K] contiguous
  float* scales;              // [M], or one where static
  s32 m, k;
  float eps;
};

constexpr s32 WARPS = THREADS / 32;
static_assert(THREADS % 32 == 0 && (ROWS == 1 || THREADS == 32), "");

struct Sum {
  static DEVICE float of(float a, float b) { return a + b; }
};
struct Largest {
  static DEVICE float of(float a, float b) { return fmaxf(a, b); }
};

// Op over the threads of a row; all get the result. Each use has a slot of its own in shared memory, so one barrier is
// enough.
template <class Op, s32 SLOT>
DEVICE float over_row(float x, float* shared) {
#pragma unroll
  for (s32 distance = 16; distance > 0; distance /= 2) x = Op::of(x, __shfl_xor_sync(0xffffffff, x, distance));
  if (WARPS == 1) return x;
  float* partials = shared + SLOT * WARPS;
  if (threadIdx.x % 32 == 0) partials[threadIdx.x / 32] = x;
  __syncthreads();
  x = partials[0];
  for (s32 warp = 1; warp < WARPS; warp++) x = Op::of(x, partials[warp]);
  return x;
}

struct Row {
  float values[CHUNKS][8];
  s32 k;

  DEVICE s32 column(s32 chunk) const { return (chunk * THREADS + threadIdx.x) * 8; }

  // f(value) in place; also of values behind the row's end, which `fold` leaves out and nobody stores.
  template <class F>
  DEVICE void each(F f) {
#pragma unroll
    for (s32 chunk = 0; chunk < CHUNKS; chunk++)
#pragma unroll
      for (s32 i = 0; i < 8; i++) values[chunk][i] = f(values[chunk][i]);
  }

  // f(value, element of `rows`), in place; does nothing where the operand is absent.
  template <class F>
  DEVICE void with(const Rows& rows, u32 m, F f) {
    if (!rows.base) return;
    const s64 offset = row_offset(rows, m);
#pragma unroll
    for (s32 chunk = 0; chunk < CHUNKS; chunk++) {
      const s32 first = column(chunk);
      if (first >= k) break;
      float others[8];
      load_row(others, rows, offset, first, k - first);
#pragma unroll
      for (s32 i = 0; i < 8; i++) values[chunk][i] = f(values[chunk][i], others[i]);
    }
  }

  template <class Op, class F>
  DEVICE float fold(float start, F f) const {
    float result = start;
#pragma unroll
    for (s32 chunk = 0; chunk < CHUNKS; chunk++)
#pragma unroll
      for (s32 i = 0; i < 8; i++)
        if (column(chunk) + i < k) result = Op::of(result, f(values[chunk][i]));
    return result;
  }
};

// The variance is that of the deviations, in a second pass over the registers: a mean of squares would cancel.
DEVICE void normalize(Row& row, float eps, float* shared) {
  const float k = static_cast<float>(row.k);
  if (NORM == LAYER_NORM) {
    const float mean = over_row<Sum, 0>(row.fold<Sum>(0.0f, [](float x) { return x; }), shared) / k;
    row.each([=](float x) { return x - mean; });
  }
  if (NORM != NO_NORM) {
    const float square = over_row<Sum, 1>(row.fold<Sum>(0.0f, [](float x) { return x * x; }), shared) / k;
    const float factor = 1.0f / sqrtf(square + eps);
    row.each([=](float x) { return x * factor; });
  }
}

extern "C" __global__ void __launch_bounds__(THREADS* ROWS)
quantize_rows(const __grid_constant__ QuantizeArguments args) {
  SHARED_MEMORY(memory);
  float* shared = reinterpret_cast<float*>(memory);
  const u32 m = blockIdx.x * ROWS + threadIdx.y;
  if (m >= args.m) return;  // whole warps, and no block-wide barrier: ROWS > 1 only where a warp has a row

  Row row;
  row.k = args.k;
  const s64 offset = row_offset(args.x, m);
#pragma unroll
  for (s32 chunk = 0; chunk < CHUNKS; chunk++) {
    const s32 column = row.column(chunk);
    if (column < args.k) load_row(row.values[chunk], args.x, offset, column, args.k - column);
  }
  normalize(row, args.eps, shared);
  row.with(args.norm_weight, m, [](float x, float weight) { return x * weight; });
  row.with(args.norm_bias, m, [](float x, float bias) { return x + bias; });
  row.with(args.modulation_scale, m, [](float x, float scale) { return x * (1.0f + scale); });
  row.with(args.modulation_shift, m, [](float x, float shift) { return x + shift; });
  row.with(args.pre_quant_scale, m, [](float x, float factor) { return x * factor; });

  float scale;
  if (args.static_scale) {
    scale = *args.static_scale;
    if (m == 0 && threadIdx.x == 0) args.scales[0] = scale;
  } else {
    const float amax = over_row<Largest, 2>(row.fold<Largest>(0.0f, [](float x) { return fabsf(x); }), shared);
    constexpr float LARGEST = CODES == S8 ? LARGEST_S8 : LARGEST_E4M3;
    constexpr float SMALLEST_SCALE = 1.17549435e-38f;  // 2^-126: a subnormal scale would lose its own precision
    scale = amax == 0.0f ? 1.0f : fmaxf(amax / LARGEST, SMALLEST_SCALE);
    if (threadIdx.x == 0) args.scales[m] = scale;
  }

  const s64 start = static_cast<s64>(m) * args.k;
#pragma unroll
  for (s32 chunk = 0; chunk < CHUNKS; chunk++) {
    const s32 column = row.column(chunk), count = args.k - column;
    if (count <= 0) break;
    float (&values)[8] = row.values[chunk];
#pragma unroll
    for (s32 i = 0; i < 8; i++) values[i] = values[i] / scale;  // not a product with 1 / scale: other codes
    store_row<CODES>(args.codes, start, column, count, values);
  }
}
