// Matrix fragments: the lanes of a warp bring their registers, the last one computes for all.
#pragma once

namespace emulator {

void ldmatrix_x4(unsigned (&fragment)[4], const void* row, const char* file, int line);

// Its reverse.
void stmatrix_x4(void* row, const unsigned (&fragment)[4], const char* file, int line);

void mma_s8(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const char* file, int line);

// Models the accumulation of FP8 tensor cores; see dot.h.
void mma_e4m3(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const char* file, int line);

}  // namespace emulator
