// Copies of boxes of a tensor from global to shared memory, by an engine.
#pragma once

namespace emulator {

class Timing;

void tma_load(void* shared, const void* map, unsigned long long* barrier, int x, int y);
void tma_load_multicast(void* shared, const void* map, unsigned long long* barrier, int x, int y, unsigned ranks);

// ---- For engines.cpp ----
void begin_loads(const Timing& timing);
bool loads_wait();
void land_one();  // any of those that wait

// Copies into a block that ends are a fault.
void end_loads_of_block();

}  // namespace emulator
