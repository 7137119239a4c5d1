// ldmatrix and stmatrix: matrices of 8 rows of 16 bytes between shared memory and the registers of a warp.
#pragma once

namespace emulator {

void ldmatrix_x4(unsigned (&fragment)[4], const void* row, const char* file, int line);

// Its reverse.
void stmatrix_x4(void* row, const unsigned (&fragment)[4], const char* file, int line);

}  // namespace emulator
