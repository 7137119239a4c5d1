// Warpgroups: 128 threads that begin at a multiple of 128, for instructions that all of them execute together.
#pragma once

namespace emulator {

struct Place;

constexpr int kWarpgroup = 128;

// What a thread brings.
using Brought = void* const (&)[kWarpgroup];

// The running thread's warpgroup, in the cluster, and its number in it.
int warpgroup();
int thread_of_warpgroup();

// Waits for all threads of the warpgroup to come to the same place; the last one does `act` for all, then all go on.
// Nothing is ordered by this alone.
void meet_warpgroup(const Place& place, void* brought, void (*act)(Brought));

// setmaxnreg: only that all do it, and the number, are looked at.
void change_registers(const char* operation, int registers, const char* file, int line);

// ---- For engines.cpp ----
void begin_warpgroups();

}  // namespace emulator
