// fma.rn of pairs of 16-bit floats.
#pragma once

namespace emulator {

// a b + c in each half of a word, rounded once: to nearest, ties to even. NaN becomes the one NaN that PTX names.
unsigned fma_f16x2(unsigned a, unsigned b, unsigned c);
unsigned fma_bf16x2(unsigned a, unsigned b, unsigned c);

}  // namespace emulator
