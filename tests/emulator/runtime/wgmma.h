// wgmma: matrix instructions of a warpgroup, whose operands lie in shared memory and whose sums come late.
#pragma once
#include "engines.h"

namespace emulator {

unsigned shared_address(const void* shared);

void fence_async();
void wgmma_fence(const char* file, int line);
void wgmma_commit(const char* file, int line);
void wgmma_wait(int groups_left, const char* file, int line);

// `sums`: columns / 2 of each thread.
void wgmma_e4m3(float* sums, int columns, unsigned long long a, unsigned long long b, bool add, const char* file,
                int line);
void wgmma_s8(int* sums, int columns, unsigned long long a, unsigned long long b, bool add, const char* file, int line);

// ---- For engines.cpp ----
void begin_wgmma(const Timing& timing);

// Sums that nobody waited for are a fault.
void end_wgmma_of_thread();

}  // namespace emulator
