// cp.async: copies into shared memory that are under way until their thread waits for them.
#pragma once

namespace emulator {

class Timing;

void cp_async_16(void* shared, const void* global, unsigned bytes);
void cp_async_commit();
void cp_async_wait(int groups_left);

// ---- For engines.cpp ----
void begin_copies(const Timing& timing);

// A thread that exits waits for nothing: its copies land, and nobody may see them.
void end_copies_of_thread();

}  // namespace emulator
