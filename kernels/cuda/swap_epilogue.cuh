// How a matmul whose left operand is the weight writes its result: sums are [channels, tokens], the result is
// [tokens, channels].
//
// No other pass: sums go through shared memory, where they are written by token and read by channel. A warp's fragment
// has 8 channels of 4 pairs of tokens; rows of the staging begin 4 words further along the banks each, so the 32 numbers
// of one store meet 32 banks. Then a lane takes 8 channels of one token, and from there on it is the epilogue of every
// matmul: bias, gate and residual are read, and the result is written, 8 columns at a time.
#pragma once
#include "epilogue.cuh"

// Floats from the sums of one token to those of the next.
template <s32 CHANNELS>
constexpr s32 STAGED_ROW = CHANNELS + 4;

// Sums i and i + 1 of a fragment are neighbouring tokens of one channel.
template <s32 CHANNELS>
DEVICE void stage_pair(float* staging, s32 token, s32 channel, float first, float second) {
  staging[token * STAGED_ROW<CHANNELS> + channel] = first;
  staging[(token + 1) * STAGED_ROW<CHANNELS> + channel] = second;
}

// Eight channels, `chunk` of a row. Where 8 lanes read one row, the upper four begin with their second half: else two
// lanes would meet at each bank.
template <s32 CHANNELS>
DEVICE void read_staged(float (&x)[8], const float* row, s32 chunk) {
  const bool flip = CHANNELS == 64 && (chunk & 4) != 0;
  const float4 one = *reinterpret_cast<const float4*>(row + 8 * chunk + (flip ? 4 : 0));
  const float4 other = *reinterpret_cast<const float4*>(row + 8 * chunk + (flip ? 0 : 4));
  const float4 first = flip ? other : one, second = flip ? one : other;
  x[0] = first.x, x[1] = first.y, x[2] = first.z, x[3] = first.w;
  x[4] = second.x, x[5] = second.y, x[6] = second.z, x[7] = second.w;
}

// Where a staged part of the sums belongs.
struct Corner {
  s32 token, channel;
};

// Adds up parts of sums; INTEGERS: what is staged are the bits of INT32, whose sums are exact where floats are not.
template <bool INTEGERS>
DEVICE float add_staged(float x, float more) {
  return INTEGERS ? __int_as_float(__float_as_int(x) + __float_as_int(more)) : x + more;
}

// TOKENS rows of CHANNELS staged sums become rows of the result [m, n], by WORKERS threads. SHARES stagings, SHARE floats
// apart, hold parts of the same sums: they are added in order.
template <s32 CHANNELS, s32 TOKENS, s32 WORKERS, s32 SHARES = 1, s32 SHARE = 0, bool INTEGERS = false>
DEVICE void store_staged(const float* staging, const Epilogue& epilogue, void* out, Corner corner, s32 m, s32 n,
                         s32 worker) {
  static_assert(CHANNELS == 32 || CHANNELS == 64, "of which lanes read rows without meeting at a bank");
  constexpr s32 LANES = CHANNELS / 8;
#pragma unroll 1
  for (s32 task = worker; task < TOKENS * LANES; task += WORKERS) {
    const s32 row = task / LANES, chunk = task % LANES;
    const s32 token = corner.token + row, column = corner.channel + 8 * chunk, count = n - column;
    if (token >= m || count <= 0) continue;
    float x[8];
    read_staged<CHANNELS>(x, staging + row * STAGED_ROW<CHANNELS>, chunk);
#pragma unroll
    for (s32 share = 1; share < SHARES; share++) {
      float more[8];
      read_staged<CHANNELS>(more, staging + share * SHARE + row * STAGED_ROW<CHANNELS>, chunk);
#pragma unroll
      for (s32 i = 0; i < 8; i++) x[i] = add_staged<INTEGERS>(x[i], more[i]);
    }
    if constexpr (INTEGERS) {
#pragma unroll
      for (s32 i = 0; i < 8; i++) x[i] = static_cast<float>(__float_as_int(x[i]));
    }
    finish(x, epilogue, result_row(epilogue, token), column, count);
    store_row<OUT>(out, static_cast<s64>(token) * n, column, count, x);
  }
}
