// Numbers in memory and in registers: how floats are read, and how results are rounded.
#pragma once
#include "ptx.cuh"

// What a host passes as `dtype`; kernels/host/structures.py has the same values.
enum Dtype : s32 { BF16 = 0, F16 = 1, F32 = 2, S8 = 3, E4M3 = 4 };

constexpr float LARGEST_S8 = 127.0f;
constexpr float LARGEST_E4M3 = 448.0f;

DEVICE constexpr s32 bytes_of(s32 dtype) { return dtype == F32 ? 4 : dtype <= F16 ? 2 : 1; }

DEVICE float bf16_to_float(u32 bits) { return __uint_as_float(bits << 16); }

// ---- Reading bf16, fp16 or fp32 as float ----

DEVICE float load(const void* base, s32 dtype, s64 index) {
  if (dtype == BF16) return bf16_to_float(static_cast<const u16*>(base)[index]);
  if (dtype == F16) return f16_to_float(static_cast<const u16*>(base)[index]);
  return static_cast<const float*>(base)[index];
}

DEVICE void unpack_pair(float& low, float& high, u32 pair, s32 dtype) {
  low = dtype == BF16 ? bf16_to_float(pair & 0xffff) : f16_to_float(static_cast<u16>(pair));
  high = dtype == BF16 ? bf16_to_float(pair >> 16) : f16_to_float(static_cast<u16>(pair >> 16));
}

// Eight in a row, with 16-byte reads; the address is a multiple of 16.
DEVICE void load_vector(float (&values)[8], const void* base, s32 dtype, s64 index) {
  if (dtype == F32) {
    const float4* p = reinterpret_cast<const float4*>(static_cast<const float*>(base) + index);
    const float4 first = p[0], second = p[1];
    values[0] = first.x, values[1] = first.y, values[2] = first.z, values[3] = first.w;
    values[4] = second.x, values[5] = second.y, values[6] = second.z, values[7] = second.w;
    return;
  }
  const uint4 packed = *reinterpret_cast<const uint4*>(static_cast<const u16*>(base) + index);
  unpack_pair(values[0], values[1], packed.x, dtype);
  unpack_pair(values[2], values[3], packed.y, dtype);
  unpack_pair(values[4], values[5], packed.z, dtype);
  unpack_pair(values[6], values[7], packed.w, dtype);
}

// Two in a row, with one read; the address is a multiple of their size.
DEVICE void load_vector(float (&values)[2], const void* base, s32 dtype, s64 index) {
  if (dtype == F32) {
    const float2 pair = *reinterpret_cast<const float2*>(static_cast<const float*>(base) + index);
    values[0] = pair.x, values[1] = pair.y;
    return;
  }
  unpack_pair(values[0], values[1], *reinterpret_cast<const u32*>(static_cast<const u16*>(base) + index), dtype);
}

// ---- Rounding to 8-bit codes: saturates, never wraps ----

DEVICE float saturated(float x, float largest) { return fminf(fmaxf(x, -largest), largest); }

DEVICE u32 s8_code(float x) { return static_cast<u32>(__float2int_rn(saturated(x, LARGEST_S8))) & 0xff; }

#if ARCH < 890
// e4m3 where no instruction makes it: 3 bits of mantissa, exponent bias 7, ties to even. |x| <= 448.
DEVICE u32 e4m3_code(float x) {
  const u32 bits = __float_as_uint(x), sign = bits >> 24 & 0x80;
  const float magnitude = fabsf(x);
  // Below 2^-6 codes count steps of 2^-9; the 8th step is code 8, the smallest normal number.
  if (magnitude < 0.015625f) return sign | static_cast<u32>(__float2int_rn(magnitude * 512.0f));
  const u32 rounded = (bits & 0x7fffffff) + 0x7ffff + (bits >> 20 & 1);
  return sign | ((rounded >> 20) - ((127 - 7) << 3));
}

DEVICE u16 e4m3x2(float low, float high) { return static_cast<u16>(e4m3_code(low) | e4m3_code(high) << 8); }
#endif

template <s32 CODE>
DEVICE u32 pack_4(const float* x) {
  if constexpr (CODE == S8) {
    return s8_code(x[0]) | s8_code(x[1]) << 8 | s8_code(x[2]) << 16 | s8_code(x[3]) << 24;
  } else {
    float clamped[4];
    for (int i = 0; i < 4; i++) clamped[i] = saturated(x[i], LARGEST_E4M3);
    return e4m3x2(clamped[0], clamped[1]) | static_cast<u32>(e4m3x2(clamped[2], clamped[3])) << 16;
  }
}

// Two results as they lie in memory: 16 bits of codes, 32 of bf16 or fp16.
template <s32 DTYPE>
DEVICE u32 pack_2(const float (&x)[2]) {
  if constexpr (DTYPE == BF16) {
    return bf16x2(x[0], x[1]);
  } else if constexpr (DTYPE == F16) {
    return f16x2(x[0], x[1]);
  } else if constexpr (DTYPE == S8) {
    return s8_code(x[0]) | s8_code(x[1]) << 8;
  } else {
    return e4m3x2(saturated(x[0], LARGEST_E4M3), saturated(x[1], LARGEST_E4M3));
  }
}

// ---- Writing eight or two in a row, or one ----

template <s32 DTYPE>
DEVICE void store_vector(void* base, s64 index, const float (&x)[8]) {
  u8* p = static_cast<u8*>(base) + index * bytes_of(DTYPE);
  if constexpr (DTYPE == F32) {
    reinterpret_cast<float4*>(p)[0] = make_float4(x[0], x[1], x[2], x[3]);
    reinterpret_cast<float4*>(p)[1] = make_float4(x[4], x[5], x[6], x[7]);
  } else if constexpr (DTYPE == BF16) {
    *reinterpret_cast<uint4*>(p) =
        make_uint4(bf16x2(x[0], x[1]), bf16x2(x[2], x[3]), bf16x2(x[4], x[5]), bf16x2(x[6], x[7]));
  } else if constexpr (DTYPE == F16) {
    *reinterpret_cast<uint4*>(p) =
        make_uint4(f16x2(x[0], x[1]), f16x2(x[2], x[3]), f16x2(x[4], x[5]), f16x2(x[6], x[7]));
  } else {
    *reinterpret_cast<uint2*>(p) = make_uint2(pack_4<DTYPE>(x), pack_4<DTYPE>(x + 4));
  }
}

template <s32 DTYPE>
DEVICE void store_vector(void* base, s64 index, const float (&x)[2]) {
  u8* p = static_cast<u8*>(base) + index * bytes_of(DTYPE);
  if constexpr (DTYPE == F32) {
    *reinterpret_cast<float2*>(p) = make_float2(x[0], x[1]);
  } else if constexpr (DTYPE == BF16 || DTYPE == F16) {
    *reinterpret_cast<u32*>(p) = pack_2<DTYPE>(x);
  } else {
    *reinterpret_cast<u16*>(p) = static_cast<u16>(pack_2<DTYPE>(x));
  }
}

template <s32 DTYPE>
DEVICE void store(void* base, s64 index, float x) {
  if constexpr (DTYPE == F32) {
    static_cast<float*>(base)[index] = x;
  } else if constexpr (DTYPE == BF16) {
    static_cast<u16*>(base)[index] = static_cast<u16>(bf16x2(x, 0.0f));
  } else if constexpr (DTYPE == F16) {
    static_cast<u16*>(base)[index] = static_cast<u16>(f16x2(x, 0.0f));
  } else {
    const float one[4] = {x, 0.0f, 0.0f, 0.0f};
    static_cast<u8*>(base)[index] = static_cast<u8>(pack_4<DTYPE>(one));
  }
}
