// Copies of boxes from shared memory into a tensor in global memory, by an engine.
#pragma once

namespace emulator {

class Timing;

void tma_store(const void* map, const void* shared, int x, int y);
void tma_store_commit();
void tma_store_wait_read(int groups_left);

// ---- For engines.cpp ----
void begin_stores(const Timing& timing);
bool stores_wait();
void store_one();  // the oldest of those that wait

// Stores that may still read shared memory are a fault.
void end_stores_of_thread();

}  // namespace emulator
