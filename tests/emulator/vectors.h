// CUDA's vector types: plain structs that a GPU loads and stores with one instruction.
#pragma once

namespace emulator {

// An assignment is one access of the whole, also when the value was built in place; see the hooks.
template <int kBytes>
struct Whole {
  typedef unsigned type __attribute__((vector_size(kBytes), may_alias));
};
template <>
struct Whole<8> {
  typedef unsigned long long type __attribute__((may_alias));
};
template <>
struct Whole<4> {
  typedef unsigned type __attribute__((may_alias));
};
template <>
struct Whole<2> {
  typedef unsigned short type __attribute__((may_alias));
};

}  // namespace emulator

#define EMULATOR_ASSIGN(name, bytes)                                         \
  __attribute__((always_inline)) name& operator=(const name& other) {        \
    using Whole = ::emulator::Whole<bytes>::type;                            \
    *reinterpret_cast<Whole*>(this) = *reinterpret_cast<const Whole*>(&other); \
    return *this;                                                            \
  }

#define EMULATOR_VECTOR_2(type, name, bytes)                                                \
  struct alignas(bytes) name {                                                              \
    type x, y;                                                                              \
    EMULATOR_ASSIGN(name, bytes)                                                            \
  };                                                                                        \
  inline __attribute__((always_inline)) name make_##name(type x, type y) { return {x, y}; }

#define EMULATOR_VECTOR_4(type, name, bytes)                                                         \
  struct alignas(bytes) name {                                                                       \
    type x, y, z, w;                                                                                 \
    EMULATOR_ASSIGN(name, bytes)                                                                     \
  };                                                                                                 \
  inline __attribute__((always_inline)) name make_##name(type x, type y, type z, type w) { return {x, y, z, w}; }

EMULATOR_VECTOR_2(signed char, char2, 2)
EMULATOR_VECTOR_4(signed char, char4, 4)
EMULATOR_VECTOR_2(unsigned char, uchar2, 2)
EMULATOR_VECTOR_4(unsigned char, uchar4, 4)
EMULATOR_VECTOR_2(short, short2, 4)
EMULATOR_VECTOR_4(short, short4, 8)
EMULATOR_VECTOR_2(unsigned short, ushort2, 4)
EMULATOR_VECTOR_4(unsigned short, ushort4, 8)
EMULATOR_VECTOR_2(int, int2, 8)
EMULATOR_VECTOR_4(int, int4, 16)
EMULATOR_VECTOR_2(unsigned, uint2, 8)
EMULATOR_VECTOR_4(unsigned, uint4, 16)
EMULATOR_VECTOR_2(float, float2, 8)
EMULATOR_VECTOR_4(float, float4, 16)
EMULATOR_VECTOR_2(long long, longlong2, 16)
EMULATOR_VECTOR_2(unsigned long long, ulonglong2, 16)

#undef EMULATOR_VECTOR_2
#undef EMULATOR_VECTOR_4
#undef EMULATOR_ASSIGN
