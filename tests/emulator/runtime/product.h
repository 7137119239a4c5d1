// A product of two matrices of 8-bit or 16-bit codes, as mma and wgmma have in common.
#pragma once
#include <cstdint>

#include "kinds.h"

namespace emulator {

struct Factors {
  Kind kind;
  int rows, columns;         // of the sums
  const std::uint8_t* a;     // [rows][32 bytes]
  const std::uint8_t* b;     // [columns][32 bytes], or 64 where a is sparse
  const std::uint8_t* kept;  // nullptr, or of each value of a with which of b's it is multiplied
};

// Adds it to `sums` [rows][columns], words of float or s32.
void add_product(const Factors& factors, std::uint32_t* sums);

}  // namespace emulator
