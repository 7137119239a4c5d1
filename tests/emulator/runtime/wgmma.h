// wgmma: matrix instructions of a warpgroup, whose right operand lies in shared memory and whose sums come late.
#pragma once
#include "kinds.h"

namespace emulator {

class Timing;

unsigned shared_address(const void* shared);

void fence_async();
void wgmma_fence(const char* file, int line);
void wgmma_commit(const char* file, int line);
void wgmma_wait(int groups_left, const char* file, int line);

// `sums`: columns / 2 of each thread, float or s32. Both operands in shared memory.
void wgmma(const char* name, Kind kind, void* sums, int columns, unsigned long long a, unsigned long long b, bool add,
           const char* file, int line);

// The left one keeps half of its values, as `metadata` says.
void wgmma_sparse(const char* name, Kind kind, void* sums, int columns, unsigned long long a, unsigned long long b,
                  unsigned metadata, bool add, const char* file, int line);

// The left one is 4 registers of each thread.
void wgmma_registers(const char* name, Kind kind, void* sums, int columns, const unsigned* a, unsigned long long b,
                     bool add, const char* file, int line);

// ---- For engines.cpp ----
void begin_wgmma(const Timing& timing);

// Sums that nobody waited for are a fault.
void end_wgmma_of_thread();

}  // namespace emulator
