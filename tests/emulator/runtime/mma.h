// mma.sync and mma.sp: the lanes of a warp bring their registers, the last one computes for all.
#pragma once
#include "kinds.h"

namespace emulator {

// c += a b^T, of m16n8 and 32 bytes along K; c is 4 registers of float or s32.
void mma(const char* name, Kind kind, void* c, const unsigned* a, unsigned b0, unsigned b1, const char* file, int line);

// The same of twice as much K, of which `metadata` says what a keeps; b is 4 registers. `selector`: which lanes are
// asked, where the values have 16 bits.
void mma_sp(const char* name, Kind kind, void* c, const unsigned* a, const unsigned* b, unsigned metadata, int selector,
            const char* file, int line);

}  // namespace emulator
