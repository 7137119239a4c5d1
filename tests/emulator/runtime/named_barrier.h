// Barriers of a part of a block, by number.
#pragma once

namespace emulator {

void barrier_sync(unsigned number, unsigned threads, const char* file, int line);

void begin_named_barriers();

}  // namespace emulator
